//! Words that values are made of, `|` between them.

pub(super) const ONSETS: &str = "\
b|br|c|ch|d|dr|f|fl|g|gr|h|j|k|l|m|n|p|qu|r|s|st|t|tr|v|w|z";

pub(super) const VOWELS: &str = "\
a|e|i|o|u|ai|ea|io|ou|y";

pub(super) const CODAS: &str = "\
n|r|l|s|m|k|nd|rt|x|th|ck|st";

pub(super) const FIRST: &str = "\
Anna|Ben|Carla|David|Elena|Frank|Grace|Henry|Irene|Jack|Karen|Leo|Maria|Nina|Oscar|\
Paula|Quentin|Rosa|Sam|Tina|Ursula|Victor|Wendy|Yusuf|Zoe|Aisha|Boris|Chloe|Dmitri|Emma|\
Fatima|George|Hanna|Ivan|Julia|Kevin|Laura|Mark|Noah|Olivia|Peter|Rachel|Simon|Sophie|\
Thomas|Vera|Will|Amir|Beatrice|Carlos|Diana|Erik|Fiona|Gustav|Helen|Isabel|John|Kate|\
Lucy|Martin|Priya|Ravi|Susan|Tom";

pub(super) const LAST: &str = "\
Adams|Baker|Carter|Diaz|Evans|Fischer|Garcia|Hughes|Ivanova|Jones|Klein|Lopez|Miller|\
Novak|Owens|Patel|Quinn|Rossi|Smith|Taylor|Underwood|Vogel|Walker|Young|Zhang|Allen|\
Brown|Clark|Dubois|Ellis|Foster|Green|Hill|Jackson|King|Lewis|Moore|Nelson|Parker|Reed|\
Scott|Turner|Ward|White|Wright|Bauer|Chen|Kowalski|Larsen|Meyer|Okafor|Romano|Sato|\
Silva|Weber|Wong";

pub(super) const CITIES: &str = "\
London|Leeds|Bristol|Glasgow|Dublin|Boston|Chicago|Denver|Seattle|Austin|Portland|\
Toronto|Sydney|Perth|Auckland|Berlin|Hamburg|Munich|Vienna|Zurich|Geneva|Paris|Lyon|\
Madrid|Lisbon|Porto|Rome|Milan|Oslo|Bergen|Stockholm|Helsinki|Warsaw|Prague|Athens|\
Cairo|Nairobi|Mumbai|Delhi|Singapore|Bangkok|Tokyo|Osaka|Seoul|Shanghai|Beijing|\
Hong Kong|Dallas";

pub(super) const MONTHS: &str = "\
January|February|March|April|May|June|July|August|September|October|November|December";

pub(super) const DAYS: &str = "\
Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday";

pub(super) const ADJECTIVES: &str = "\
red|blue|green|black|white|grey|small|large|light|heavy|folding|wireless|electric|\
wooden|steel|glass|leather|cotton|woollen|ceramic|organic|portable|cordless|foldable|\
waterproof|padded|round|square|tall|compact|double|yellow|brown|silver|classic|mini";

pub(super) const PRODUCTS: &str = "\
kettle|lamp|backpack|chair|desk|jacket|coat|shirt|pair of shoes|boots|headphones|\
keyboard|mouse|monitor|phone case|charger|blender|toaster|pan|knife set|mug|plate|bowl|\
tea pot|rug|curtain|pillow|blanket|mattress|sofa|table|shelf|mirror|clock|vase|basket|\
suitcase|umbrella|scarf|hat|belt|wallet|watch|necklace|bicycle|helmet|tent|sleeping bag|\
water bottle|yoga mat|football|racket|drill|hammer|ladder|garden hose|lawn mower|grill|\
fan|heater|vacuum cleaner|iron|washing machine|fridge|oven|camera|speaker|tablet|\
printer|notebook|pen|puzzle";

pub(super) const SURNAMES: &str = "\
王|李|张|刘|陈|杨|赵|黄|周|吴|徐|孙|胡|朱|高|林|何|郭|马|罗|梁|宋|郑|谢|韩|唐|冯|于|董|\
萧|程|曹|袁|邓|许|傅|沈|曾|彭|吕|苏|卢|蒋|蔡|贾|丁|欧阳|司马";

/// Characters of names of persons, companies and streets.
pub(super) const GIVEN: &str = "\
安宝冰波博昌超晨成春聪翠达丹德冬东恩芳飞菲丰峰凤福刚光广国海涵翰航豪浩和荷鹤恒红宏虹洪鸿\
华欢慧吉佳嘉家坚建健江娇杰洁金津锦晋京晶景静菊军俊凯康可坤兰乐磊丽力立莲良亮林琳玲凌龙露\
璐伦美萌梦敏明铭娜楠宁鹏平萍琪奇倩强巧青清晴庆秋泉群然仁荣蓉瑞润森山珊尚少绍胜诗石世淑帅\
双爽思松涛天田婷彤桐万薇伟文雯武希溪曦霞夏贤祥翔晓欣新鑫星兴幸雄秀旭轩学雪雅亚妍岩艳燕阳\
洋瑶耀烨怡义艺毅益音银英颖永勇优宇雨玉元园源远月悦云芸泽哲珍真振正志智中忠竹卓子紫滨湖桥\
塔泰畅辰橙鼎枫港谷桂禾桦汇基稼简椒津橘郡酷岚澜蓝浪黎柳麓罗茂梅妙墨牧暖派盼培朴麒启千乔勤\
苏穗棠陶腾庭通拓湾旺望威维蔚沃梧熙湘萱焰遥逸盈映裕煜誉渊苑跃泽栈臻筑";

pub(super) const CHINESE_CITIES: &str = "\
北京|上海|广州|深圳|杭州|南京|苏州|成都|重庆|武汉|西安|天津|长沙|郑州|青岛|大连|厦门|\
福州|昆明|合肥|济南|宁波|无锡|沈阳|哈尔滨|长春|石家庄|太原|南昌|贵阳|南宁|海口|兰州|\
银川|拉萨|乌鲁木齐|香港|澳门|台北|珠海";

pub(super) const CHINESE_ADJECTIVES: &str = "\
红色|蓝色|绿色|黑色|白色|灰色|小号|大号|轻便|折叠|无线|电动|木制|不锈钢|玻璃|真皮|纯棉|\
羊毛|陶瓷|有机|便携|防水|加厚|圆形|方形|双层|迷你|黄色|银色|经典|儿童|智能";

pub(super) const CHINESE_PRODUCTS: &str = "\
水壶|台灯|背包|椅子|书桌|夹克|大衣|衬衫|运动鞋|靴子|耳机|键盘|鼠标|显示器|手机壳|充电器|\
榨汁机|面包机|平底锅|刀具|马克杯|盘子|茶壶|地毯|窗帘|枕头|毛毯|床垫|沙发|餐桌|书架|镜子|\
挂钟|花瓶|篮子|行李箱|雨伞|围巾|帽子|皮带|钱包|手表|项链|自行车|头盔|帐篷|睡袋|水杯|\
瑜伽垫|足球|球拍|电钻|锤子|梯子|水管|割草机|烤架|风扇|取暖器|吸尘器|熨斗|洗衣机|冰箱|\
拼图";
