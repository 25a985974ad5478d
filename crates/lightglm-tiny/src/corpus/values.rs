//! What the slots of facts are filled with: names, numbers, dates, prices. Half of all names are made up of syllables, so
//! that what is learnt is to copy them, not to know them.

use super::language::Language;
use super::random::Random;

const BUILT_IN: [&str; 15] = [
    "name", "company", "city", "street", "phone", "email", "code", "product", "time", "date",
    "day", "month", "price", "percent", "url",
];

/// Whether a slot of this name needs no values of its own; digits behind the name make another slot.
pub(super) fn is_built_in(slot: &str) -> bool {
    BUILT_IN.contains(&slot.trim_end_matches(|c: char| c.is_ascii_digit()))
}

/// A value of a built-in slot.
pub(super) fn value(slot: &str, language: Language, random: &mut Random) -> String {
    let kind = slot.trim_end_matches(|c: char| c.is_ascii_digit());
    match language {
        Language::English => english(kind, random),
        Language::Chinese => chinese(kind, random),
    }
}

fn english(kind: &str, random: &mut Random) -> String {
    match kind {
        "name" => english_person(random),
        "company" => english_company(random),
        "city" => match random.chance(0.5) {
            true => random.pick(&CITIES).to_string(),
            false => invented(random),
        },
        "street" => {
            let name =
                if random.chance(0.5) { random.pick(&LAST).to_string() } else { invented(random) };
            format!(
                "{} {name} {}",
                random.within(1..=399),
                random.pick(&["Street", "Road", "Lane", "Avenue", "Square"])
            )
        }
        "product" => match random.chance(0.75) {
            true => format!("{} {}", random.pick(&ADJECTIVES), random.pick(&PRODUCTS)),
            false => format!("{} {}", random.pick(&PRODUCTS), code(random)),
        },
        "time" => english_time(random),
        "date" => match random.below(3) {
            0 => format!("{} {}", random.within(1..=28), random.pick(&MONTHS)),
            1 => format!("the {} of {}", ordinal(random.within(1..=28)), random.pick(&MONTHS)),
            _ => format!("{} {}", random.pick(&MONTHS), random.within(1..=28)),
        },
        "day" => random.pick(&DAYS).to_string(),
        "month" => random.pick(&MONTHS).to_string(),
        "price" => {
            let amount = amount(random);
            match random.below(6) {
                0 | 1 => format!("${amount}"),
                2 => format!("{amount} dollars"),
                3 => format!("£{amount}"),
                4 => format!("€{amount}"),
                _ => format!("{amount} euros"),
            }
        }
        _ => either(kind, random),
    }
}

fn chinese(kind: &str, random: &mut Random) -> String {
    match kind {
        "name" => {
            let name = format!("{}{}", random.pick(&SURNAMES), han(random, GIVEN, 1..=2));
            match random.below(5) {
                0 => format!(
                    "{}{}",
                    random.pick(&SURNAMES),
                    random.pick(&["老师", "经理", "女士", "先生", "医生", "师傅"])
                ),
                1 => format!("{name}{}", random.pick(&["老师", "经理", "女士", "先生"])),
                _ => name,
            }
        }
        "company" => {
            let end = [
                "公司",
                "科技",
                "贸易",
                "超市",
                "商城",
                "书店",
                "工作室",
                "集团",
                "服务中心",
                "百货",
            ];
            format!("{}{}", han(random, GIVEN, 2..=3), random.pick(&end))
        }
        "city" => match random.chance(0.6) {
            true => random.pick(&CHINESE_CITIES).to_string(),
            false => {
                format!("{}{}", han(random, GIVEN, 2..=2), random.pick(&["市", "县", "镇", "州"]))
            }
        },
        "street" => {
            let road = ["路", "街", "大道", "巷"];
            format!(
                "{}{}{}号",
                han(random, GIVEN, 2..=2),
                random.pick(&road),
                random.within(1..=888)
            )
        }
        "product" => match random.chance(0.75) {
            true => {
                format!("{}{}", random.pick(&CHINESE_ADJECTIVES), random.pick(&CHINESE_PRODUCTS))
            }
            false => format!("{}{}", code(random), random.pick(&CHINESE_PRODUCTS)),
        },
        "time" => {
            let hour = random.within(0..=23);
            let minute = random.pick(&["00", "15", "30", "45"]);
            let part = match hour {
                0..=5 => "凌晨",
                6..=11 => "上午",
                12..=17 => "下午",
                _ => "晚上",
            };
            let twelve = if hour > 12 { hour - 12 } else { hour };
            match random.below(4) {
                0 => format!("{part}{twelve}点"),
                1 => format!("{part}{twelve}点半"),
                2 => format!("{part}{twelve}:{minute}"),
                _ => format!("{hour}:{minute}"),
            }
        }
        "date" => {
            let (month, day) = (random.within(1..=12), random.within(1..=28));
            format!("{month}月{day}{}", if random.chance(0.85) { "日" } else { "号" })
        }
        "day" => format!(
            "{}{}",
            random.pick(&["星期", "周"]),
            random.pick(&["一", "二", "三", "四", "五", "六", "日"])
        ),
        "month" => format!("{}月", random.within(1..=12)),
        "price" => {
            format!("{}{}", amount(random), random.pick(&["元", "元", "元", "块钱", "欧元"]))
        }
        _ => either(kind, random),
    }
}

/// What is the same in both languages.
fn either(kind: &str, random: &mut Random) -> String {
    match kind {
        "phone" => phone(random),
        "email" => {
            let user = invented(random).to_lowercase();
            let user = if random.chance(0.5) {
                random.pick(&["info", "service", "help", "support", "office"]).to_string()
            } else {
                user
            };
            format!("{user}@{}", site(random))
        }
        "url" => format!("www.{}", site(random)),
        "percent" => match random.chance(0.2) {
            true => format!("{}.{}%", random.within(0..=19), random.within(1..=9)),
            false => format!("{}%", random.within(1..=99)),
        },
        _ => code(random),
    }
}

fn phone(random: &mut Random) -> String {
    let digits = |count: usize, random: &mut Random| -> String {
        (0..count).map(|_| digit(random)).collect()
    };
    match random.below(5) {
        0 => format!("0{}-{}", digits(3, random), digits(6, random)),
        1 => format!("400-{}-{}", digits(3, random), digits(4, random)),
        2 => format!("1{}", digits(10, random)),
        3 => format!("555-{}", digits(4, random)),
        _ => format!("0{} {} {}", digits(2, random), digits(4, random), digits(4, random)),
    }
}

fn site(random: &mut Random) -> String {
    format!(
        "{}.{}",
        invented(random).to_lowercase(),
        random.pick(&["com", "org", "net", "cn", "example", "de", "co.uk"])
    )
}

fn digit(random: &mut Random) -> char {
    char::from(b'0' + random.below(10) as u8)
}

fn letter(random: &mut Random) -> char {
    char::from(b'A' + random.below(26) as u8)
}

/// Such as `K7Q-204`.
pub(super) fn code(random: &mut Random) -> String {
    let mut text = String::new();
    let pattern = random.pick(&[
        "L9L-999", "LL999", "LL-99", "L99", "999-L", "LLL-9999", "9999", "L-99999", "99L9",
    ]);
    for c in pattern.chars() {
        text.push(match c {
            'L' => letter(random),
            '9' => digit(random),
            other => other,
        });
    }
    text
}

fn amount(random: &mut Random) -> String {
    let whole = match random.below(4) {
        0 => random.within(1..=9),
        1 => random.within(10..=99),
        2 => random.within(100..=999),
        _ => 5 * random.within(1..=200),
    };
    match random.below(3) {
        0 => format!("{whole}.{}{}", random.below(10), random.pick(&["0", "5", "9"])),
        _ => whole.to_string(),
    }
}

fn english_time(random: &mut Random) -> String {
    let (hour, minute) = (random.within(1..=12), random.pick(&["00", "15", "30", "45"]));
    let half = random.pick(&["am", "pm"]);
    match random.below(5) {
        0 => format!("{hour} {half}"),
        1 => format!("{hour}:{minute} {half}"),
        2 => format!("{hour} {}", if half == "am" { "a.m." } else { "p.m." }.trim_end_matches('.')),
        3 => format!("{}:{minute}", random.within(0..=23)),
        _ => format!("{} o'clock", hour),
    }
}

fn ordinal(number: usize) -> String {
    let end = match (number % 10, number / 10) {
        (1, 0 | 2) => "st",
        (2, 0 | 2) => "nd",
        (3, 0 | 2) => "rd",
        _ => "th",
    };
    format!("{number}{end}")
}

fn english_person(random: &mut Random) -> String {
    let last = if random.chance(0.5) { random.pick(&LAST).to_string() } else { invented(random) };
    match random.below(6) {
        0 => format!("{} {last}", random.pick(&["Mr", "Ms", "Mrs", "Dr", "Professor"])),
        1 => format!("{} {last}", invented(random)),
        _ => format!("{} {last}", random.pick(&FIRST)),
    }
}

fn english_company(random: &mut Random) -> String {
    let name = if random.chance(0.3) { random.pick(&LAST).to_string() } else { invented(random) };
    let end = [
        "Ltd", "Stores", "Group", "Services", "& Sons", "Market", "Online", "Supplies", "Partners",
        "Studio", "Shop",
    ];
    format!("{name} {}", random.pick(&end))
}

/// A name that nobody has, of two or three syllables.
pub(super) fn invented(random: &mut Random) -> String {
    let mut name = String::new();
    for _ in 0..random.within(2..=3) {
        name.push_str(random.pick(&ONSETS));
        name.push_str(random.pick(&VOWELS));
        if random.chance(0.35) {
            name.push_str(random.pick(&CODAS));
        }
    }
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Han characters of a list, so many.
fn han(random: &mut Random, list: &str, count: std::ops::RangeInclusive<usize>) -> String {
    let all: Vec<char> = list.chars().collect();
    (0..random.within(count)).map(|_| random.pick(&all)).collect()
}

/// A word of Chinese that hardly anyone has.
pub(super) fn invented_chinese(random: &mut Random) -> String {
    han(random, GIVEN, 2..=3)
}

const ONSETS: [&str; 26] = [
    "b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gr", "h", "j", "k", "l", "m", "n", "p", "qu",
    "r", "s", "st", "t", "tr", "v", "w", "z",
];
const VOWELS: [&str; 10] = ["a", "e", "i", "o", "u", "ai", "ea", "io", "ou", "y"];
const CODAS: [&str; 12] = ["n", "r", "l", "s", "m", "k", "nd", "rt", "x", "th", "ck", "st"];

const FIRST: [&str; 64] = [
    "Anna", "Ben", "Carla", "David", "Elena", "Frank", "Grace", "Henry", "Irene", "Jack", "Karen",
    "Leo", "Maria", "Nina", "Oscar", "Paula", "Quentin", "Rosa", "Sam", "Tina", "Ursula", "Victor",
    "Wendy", "Yusuf", "Zoe", "Aisha", "Boris", "Chloe", "Dmitri", "Emma", "Fatima", "George",
    "Hanna", "Ivan", "Julia", "Kevin", "Laura", "Mark", "Noah", "Olivia", "Peter", "Rachel",
    "Simon", "Sophie", "Thomas", "Vera", "Will", "Amir", "Beatrice", "Carlos", "Diana", "Erik",
    "Fiona", "Gustav", "Helen", "Isabel", "John", "Kate", "Lucy", "Martin", "Priya", "Ravi",
    "Susan", "Tom",
];
const LAST: [&str; 56] = [
    "Adams",
    "Baker",
    "Carter",
    "Diaz",
    "Evans",
    "Fischer",
    "Garcia",
    "Hughes",
    "Ivanova",
    "Jones",
    "Klein",
    "Lopez",
    "Miller",
    "Novak",
    "Owens",
    "Patel",
    "Quinn",
    "Rossi",
    "Smith",
    "Taylor",
    "Underwood",
    "Vogel",
    "Walker",
    "Young",
    "Zhang",
    "Allen",
    "Brown",
    "Clark",
    "Dubois",
    "Ellis",
    "Foster",
    "Green",
    "Hill",
    "Jackson",
    "King",
    "Lewis",
    "Moore",
    "Nelson",
    "Parker",
    "Reed",
    "Scott",
    "Turner",
    "Ward",
    "White",
    "Wright",
    "Bauer",
    "Chen",
    "Kowalski",
    "Larsen",
    "Meyer",
    "Okafor",
    "Romano",
    "Sato",
    "Silva",
    "Weber",
    "Wong",
];
const CITIES: [&str; 48] = [
    "London",
    "Leeds",
    "Bristol",
    "Glasgow",
    "Dublin",
    "Boston",
    "Chicago",
    "Denver",
    "Seattle",
    "Austin",
    "Portland",
    "Toronto",
    "Sydney",
    "Perth",
    "Auckland",
    "Berlin",
    "Hamburg",
    "Munich",
    "Vienna",
    "Zurich",
    "Geneva",
    "Paris",
    "Lyon",
    "Madrid",
    "Lisbon",
    "Porto",
    "Rome",
    "Milan",
    "Oslo",
    "Bergen",
    "Stockholm",
    "Helsinki",
    "Warsaw",
    "Prague",
    "Athens",
    "Cairo",
    "Nairobi",
    "Mumbai",
    "Delhi",
    "Singapore",
    "Bangkok",
    "Tokyo",
    "Osaka",
    "Seoul",
    "Shanghai",
    "Beijing",
    "Hong Kong",
    "Dallas",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
const ADJECTIVES: [&str; 36] = [
    "red",
    "blue",
    "green",
    "black",
    "white",
    "grey",
    "small",
    "large",
    "light",
    "heavy",
    "folding",
    "wireless",
    "electric",
    "wooden",
    "steel",
    "glass",
    "leather",
    "cotton",
    "woollen",
    "ceramic",
    "organic",
    "portable",
    "cordless",
    "foldable",
    "waterproof",
    "padded",
    "round",
    "square",
    "tall",
    "compact",
    "double",
    "yellow",
    "brown",
    "silver",
    "classic",
    "mini",
];
const PRODUCTS: [&str; 72] = [
    "kettle",
    "lamp",
    "backpack",
    "chair",
    "desk",
    "jacket",
    "coat",
    "shirt",
    "pair of shoes",
    "boots",
    "headphones",
    "keyboard",
    "mouse",
    "monitor",
    "phone case",
    "charger",
    "blender",
    "toaster",
    "pan",
    "knife set",
    "mug",
    "plate",
    "bowl",
    "tea pot",
    "rug",
    "curtain",
    "pillow",
    "blanket",
    "mattress",
    "sofa",
    "table",
    "shelf",
    "mirror",
    "clock",
    "vase",
    "basket",
    "suitcase",
    "umbrella",
    "scarf",
    "hat",
    "belt",
    "wallet",
    "watch",
    "necklace",
    "bicycle",
    "helmet",
    "tent",
    "sleeping bag",
    "water bottle",
    "yoga mat",
    "football",
    "racket",
    "drill",
    "hammer",
    "ladder",
    "garden hose",
    "lawn mower",
    "grill",
    "fan",
    "heater",
    "vacuum cleaner",
    "iron",
    "washing machine",
    "fridge",
    "oven",
    "camera",
    "speaker",
    "tablet",
    "printer",
    "notebook",
    "pen",
    "puzzle",
];
const SURNAMES: [&str; 48] = [
    "王", "李", "张", "刘", "陈", "杨", "赵", "黄", "周", "吴", "徐", "孙", "胡", "朱", "高", "林",
    "何", "郭", "马", "罗", "梁", "宋", "郑", "谢", "韩", "唐", "冯", "于", "董", "萧", "程", "曹",
    "袁", "邓", "许", "傅", "沈", "曾", "彭", "吕", "苏", "卢", "蒋", "蔡", "贾", "丁", "欧阳",
    "司马",
];
/// Characters of names of persons, companies and streets.
const GIVEN: &str = "安宝冰波博昌超晨成春聪翠达丹德冬东恩芳飞菲丰峰凤福刚光广国海涵翰航豪浩和荷鹤恒红宏虹洪鸿华欢慧吉佳嘉家坚\
建健江娇杰洁金津锦晋京晶景静菊军俊凯康可坤兰乐磊丽力立莲良亮林琳玲凌龙露璐伦美萌梦敏明铭娜楠宁鹏平萍琪奇倩强巧\
青清晴庆秋泉群然仁荣蓉瑞润森山珊尚少绍胜诗石世淑帅双爽思松涛天田婷彤桐万薇伟文雯武希溪曦霞夏贤祥翔晓欣新鑫星兴\
幸雄秀旭轩学雪雅亚妍岩艳燕阳洋瑶耀烨怡义艺毅益音银英颖永勇优宇雨玉元园源远月悦云芸泽哲珍真振正志智中忠竹卓子紫\
滨湖桥塔泰畅辰橙鼎枫港谷桂禾桦汇基稼简椒津橘郡酷岚澜蓝浪黎柳麓罗茂梅妙墨牧暖派盼培朴麒启千乔勤苏穗棠陶腾庭通\
拓湾旺望威维蔚沃梧熙湘萱焰遥逸盈映裕煜誉渊苑跃泽栈臻筑";
const CHINESE_CITIES: [&str; 40] = [
    "北京",
    "上海",
    "广州",
    "深圳",
    "杭州",
    "南京",
    "苏州",
    "成都",
    "重庆",
    "武汉",
    "西安",
    "天津",
    "长沙",
    "郑州",
    "青岛",
    "大连",
    "厦门",
    "福州",
    "昆明",
    "合肥",
    "济南",
    "宁波",
    "无锡",
    "沈阳",
    "哈尔滨",
    "长春",
    "石家庄",
    "太原",
    "南昌",
    "贵阳",
    "南宁",
    "海口",
    "兰州",
    "银川",
    "拉萨",
    "乌鲁木齐",
    "香港",
    "澳门",
    "台北",
    "珠海",
];
const CHINESE_ADJECTIVES: [&str; 32] = [
    "红色",
    "蓝色",
    "绿色",
    "黑色",
    "白色",
    "灰色",
    "小号",
    "大号",
    "轻便",
    "折叠",
    "无线",
    "电动",
    "木制",
    "不锈钢",
    "玻璃",
    "真皮",
    "纯棉",
    "羊毛",
    "陶瓷",
    "有机",
    "便携",
    "防水",
    "加厚",
    "圆形",
    "方形",
    "双层",
    "迷你",
    "黄色",
    "银色",
    "经典",
    "儿童",
    "智能",
];
const CHINESE_PRODUCTS: [&str; 64] = [
    "水壶",
    "台灯",
    "背包",
    "椅子",
    "书桌",
    "夹克",
    "大衣",
    "衬衫",
    "运动鞋",
    "靴子",
    "耳机",
    "键盘",
    "鼠标",
    "显示器",
    "手机壳",
    "充电器",
    "榨汁机",
    "面包机",
    "平底锅",
    "刀具",
    "马克杯",
    "盘子",
    "茶壶",
    "地毯",
    "窗帘",
    "枕头",
    "毛毯",
    "床垫",
    "沙发",
    "餐桌",
    "书架",
    "镜子",
    "挂钟",
    "花瓶",
    "篮子",
    "行李箱",
    "雨伞",
    "围巾",
    "帽子",
    "皮带",
    "钱包",
    "手表",
    "项链",
    "自行车",
    "头盔",
    "帐篷",
    "睡袋",
    "水杯",
    "瑜伽垫",
    "足球",
    "球拍",
    "电钻",
    "锤子",
    "梯子",
    "水管",
    "割草机",
    "烤架",
    "风扇",
    "取暖器",
    "吸尘器",
    "熨斗",
    "洗衣机",
    "冰箱",
    "拼图",
];
