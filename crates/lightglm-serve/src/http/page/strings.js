// Every text that the page shows, in each language, and the switch between them.
//
// An element shows a string through `data-text` (its text), `data-label` (aria-label),
// `data-title` or `data-placeholder`; setText does the same from a module. `{name}` stands for a
// parameter.

export const STRINGS = {
  en: {
    title: "lightglm",
    skip: "Skip to the message field",
    modes: "Modes",
    modeChat: "Chat",
    modeAnswer: "Answer from a text",
    switchLanguage: "中文",
    switchLanguageLabel: "切换到中文",
    settings: "Settings",
    close: "Close",

    welcome: "What can I help with?",
    welcomeNote: "The model runs on this server. Nothing you write is sent anywhere else.",
    sample1: "Explain in three sentences what a KV cache is for.",
    sample2: "Write a Rust function that counts words, with a test.",
    sample3: "Compare INT8 and INT4 quantization in a table.",
    sample4: "Translate into Chinese: “A journey of a thousand miles begins with a single step.”",
    conversation: "Conversation",
    you: "You",
    assistant: "Model",
    message: "Message",
    messagePlaceholder: "Write a message",
    hint: "Enter sends · Shift+Enter starts a new line · Esc stops",
    attach: "Attach files",
    attached: "Attached",
    record: "Record",
    recordStop: "End the recording",
    recordingFor: "Recording {time}",
    pictureName: "Picture",
    recordingName: "Recording",
    remove: "Take out",
    notKept: "{name} (not kept)",
    pictureOf: "Picture: {name}",
    recordingOf: "Recording: {name}",
    noPictures: "This model does not take pictures.",
    noRecordings: "This model does not take recordings.",
    noMicrophone: "The microphone cannot be used.",
    mediaTooMany: "A message takes at most {most} files.",
    mediaTooLarge: "{name} is larger than 100 MB.",
    mediaUnknown: "{name} is neither a picture nor a recording.",
    pictureUnread: "{name} cannot be read as a picture.",
    recordingUnread: "{name} cannot be read as a recording.",
    recordingTooLong: "{name} is longer than 15 minutes.",
    fileUnread: "{name} cannot be read.",
    send: "Send",
    stop: "Stop",
    clear: "Clear",
    undoClear: "Bring the conversation back",
    copy: "Copy",
    copied: "Copied",
    regenerate: "Regenerate",
    retry: "Try again",
    retryIn: "Try again in {seconds} s",
    latest: "To the latest",
    thinking: "Waiting for the first token",
    answering: "The model is answering",
    answered: "The answer is complete",

    stats: "first token {ttft} s · {rate} tokens/s · {tokens} tokens",
    statsFirst: "first token {ttft} s",
    statsTotal: "{seconds} s",
    statsTokens: "{seconds} s · {tokens} tokens",
    stopped: "Stopped",
    cutOff: "Cut off: the token limit is reached",
    repeated: "Cut off: the model repeats itself",
    filtered: "Ended by a filter",
    toolCall: "Tool call",
    reasoning: "Thinking",
    reasoned: "What the model thought",

    exportMarkdown: "Save as Markdown",
    exportJson: "Save as JSON",
    importJson: "Open JSON",
    imported: "The conversation is open.",
    importFailed: "This file holds no conversation of this page.",
    keep: "Keep through a reload",
    keepNote: "Text, settings and key stay in this tab until it closes. Unticked, nothing is stored.",

    text: "Text",
    textPlaceholder: "Paste the text that holds the answer",
    question: "Question",
    questionPlaceholder: "What do you want to know?",
    ask: "Answer",
    answer: "Answer",
    answerEmpty: "The answer that your text gives appears here.",
    answerWaiting: "Reading the text",
    characters: "{count} characters",
    example: "Fill in an example",
    exampleText:
      "Standard delivery takes 3 to 5 working days and costs 4.90 euros. If your parcel has not arrived after 10 days, write to parcels@morin.example with the order number and we send it again. Orders can be sent back within 30 days, and the return label lies in the parcel. The store in Harbour Street 12 is open from Monday to Saturday, from 9:30 to 18:00. All lamps have a warranty of 3 years.",
    exampleQuestion: "My parcel has not arrived. What should I do?",

    server: "Server",
    online: "Connected",
    offline: "No connection",
    connecting: "Connecting",
    keyNeeded: "An API key is needed",
    metricsHidden: "No figures from this server",
    kv: "KV cache",
    kvUse: "{used} of {total} blocks",
    kvUseCached: "{used} of {total} blocks, {cached} more kept for reuse",
    running: "Running",
    waiting: "Waiting",
    throughput: "Tokens/s",
    strip: "KV {kv}% · {running} running · {waiting} waiting",

    generation: "Generation",
    model: "Model",
    noModels: "No model",
    temperature: "Temperature",
    temperatureNote: "0 always takes the likeliest token.",
    maxTokens: "Max tokens",
    maxTokensPlaceholder: "Automatic",
    seed: "Seed",
    seedPlaceholder: "Random",
    system: "System prompt",
    systemPlaceholder: "How the model should behave",
    wholeNumber: "A whole number of {min} or more",
    access: "Access",
    apiKey: "API key",
    apiKeyNote: "Only if the server asks for one. Kept until this tab closes.",

    errorNetwork: "The server cannot be reached. Check the connection and try again.",
    errorBroken: "The connection broke off before the answer was complete.",
    errorBusy: "The server is busy.",
    errorKey: "The server asks for an API key. Enter it in the settings.",
    errorStatus: "The server answered with status {status}.",
    errorReply: "The server's reply could not be read.",
  },
  zh: {
    title: "lightglm",
    skip: "跳到消息输入框",
    modes: "模式",
    modeChat: "对话",
    modeAnswer: "依据文本回答",
    switchLanguage: "EN",
    switchLanguageLabel: "Switch to English",
    settings: "设置",
    close: "关闭",

    welcome: "有什么可以帮您？",
    welcomeNote: "模型就运行在这台服务器上，您输入的内容不会发往别处。",
    sample1: "用三句话解释 KV 缓存的作用。",
    sample2: "用 Rust 写一个统计词频的函数，并附上测试。",
    sample3: "用表格比较 INT8 与 INT4 量化。",
    sample4: "把“千里之行，始于足下”翻译成英文，并说明出处。",
    conversation: "对话内容",
    you: "您",
    assistant: "模型",
    message: "消息",
    messagePlaceholder: "输入消息",
    hint: "Enter 发送 · Shift+Enter 换行 · Esc 停止",
    attach: "添加文件",
    attached: "已添加",
    record: "录音",
    recordStop: "结束录音",
    recordingFor: "正在录音 {time}",
    pictureName: "图片",
    recordingName: "录音",
    remove: "移除",
    notKept: "{name}（未保留）",
    pictureOf: "图片：{name}",
    recordingOf: "录音：{name}",
    noPictures: "此模型不支持图片。",
    noRecordings: "此模型不支持录音。",
    noMicrophone: "无法使用麦克风。",
    mediaTooMany: "一条消息最多 {most} 个文件。",
    mediaTooLarge: "{name} 超过 100 MB。",
    mediaUnknown: "{name} 既不是图片也不是录音。",
    pictureUnread: "无法将 {name} 作为图片读取。",
    recordingUnread: "无法将 {name} 作为录音读取。",
    recordingTooLong: "{name} 超过 15 分钟。",
    fileUnread: "无法读取 {name}。",
    send: "发送",
    stop: "停止",
    clear: "清空",
    undoClear: "恢复刚才的对话",
    copy: "复制",
    copied: "已复制",
    regenerate: "重新生成",
    retry: "重试",
    retryIn: "{seconds} 秒后可重试",
    latest: "回到最新",
    thinking: "正在等待第一个词元",
    answering: "模型正在回答",
    answered: "回答完毕",

    stats: "首词元 {ttft} 秒 · {rate} 词元/秒 · 共 {tokens} 词元",
    statsFirst: "首词元 {ttft} 秒",
    statsTotal: "{seconds} 秒",
    statsTokens: "{seconds} 秒 · 共 {tokens} 词元",
    stopped: "已停止",
    cutOff: "已截断：达到词元上限",
    repeated: "已截断：模型在重复自己",
    filtered: "已被过滤器终止",
    toolCall: "工具调用",
    reasoning: "思考中",
    reasoned: "思考过程",

    exportMarkdown: "存为 Markdown",
    exportJson: "存为 JSON",
    importJson: "打开 JSON",
    imported: "对话已打开。",
    importFailed: "此文件不是本页面保存的对话。",
    keep: "刷新后保留",
    keepNote: "文本、设置和密钥只留在此标签页中，关闭即清除；取消勾选则什么都不存储。",

    text: "文本",
    textPlaceholder: "粘贴包含答案的文本",
    question: "问题",
    questionPlaceholder: "您想知道什么？",
    ask: "回答",
    answer: "答案",
    answerEmpty: "依据文本得出的答案会显示在这里。",
    answerWaiting: "正在阅读文本",
    characters: "{count} 个字符",
    example: "填入示例",
    exampleText:
      "普通快递需要3到5个工作日，运费12元。如果包裹10天后还没有到，请把订单号发到 parcels@morin.example，我们会重新寄送。订单可以在30天内退货，退货单放在包裹里。海港街12号的门店周一至周六营业，时间为9:30到18:00。所有灯具保修3年。",
    exampleQuestion: "我的包裹还没有到，怎么办？",

    server: "服务器",
    online: "已连接",
    offline: "无法连接",
    connecting: "正在连接",
    keyNeeded: "需要 API 密钥",
    metricsHidden: "服务器未提供指标",
    kv: "KV 缓存",
    kvUse: "已用 {used} / {total} 块",
    kvUseCached: "已用 {used} / {total} 块，另有 {cached} 块留待复用",
    running: "运行中",
    waiting: "排队中",
    throughput: "词元/秒",
    strip: "KV {kv}% · 运行 {running} · 排队 {waiting}",

    generation: "生成",
    model: "模型",
    noModels: "没有模型",
    temperature: "温度",
    temperatureNote: "为 0 时总是选择概率最高的词元。",
    maxTokens: "最多词元数",
    maxTokensPlaceholder: "自动",
    seed: "随机种子",
    seedPlaceholder: "随机",
    system: "系统提示词",
    systemPlaceholder: "希望模型如何表现",
    wholeNumber: "不小于 {min} 的整数",
    access: "访问",
    apiKey: "API 密钥",
    apiKeyNote: "仅在服务器要求时填写，关闭此标签页后即清除。",

    errorNetwork: "无法连接服务器，请检查网络后重试。",
    errorBroken: "回答尚未完成，连接就中断了。",
    errorBusy: "服务器繁忙。",
    errorKey: "服务器需要 API 密钥，请在设置中填写。",
    errorStatus: "服务器返回状态码 {status}。",
    errorReply: "无法读取服务器的回复。",
  },
};

const TAGS = { en: "en", zh: "zh-CN" };
const ATTRIBUTES = { label: "aria-label", title: "title", placeholder: "placeholder" };
const STORED = "lightglm.language";

const parameters = new WeakMap(); // element to the parameters of its text
let current = initialLanguage();

function initialLanguage() {
  try {
    const stored = localStorage.getItem(STORED);
    if (stored in STRINGS) return stored;
  } catch {
    // No storage: the browser's language decides.
  }
  return globalThis.navigator?.language?.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function language() {
  return current;
}

/** The string of a key in the present language. */
export function t(key, values = {}) {
  const template = STRINGS[current][key] ?? key;
  return template.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** Shows a string in an element, now and after every change of language. */
export function setText(element, key, values = {}) {
  element.dataset.text = key;
  parameters.set(element, values);
  const text = t(key, values);
  if (element.textContent !== text) element.textContent = text;
}

/** The same for one of its attributes: "label", "title" or "placeholder". */
export function setAttributeText(element, attribute, key, values = undefined) {
  element.dataset[attribute] = key;
  if (values) parameters.set(element, values);
  element.setAttribute(ATTRIBUTES[attribute], t(key, values));
}

/** Changes the language of everything that is shown. */
export function setLanguage(next) {
  current = next;
  try {
    localStorage.setItem(STORED, next);
  } catch {
    // Kept for this page alone.
  }
  applyLanguage();
}

export function applyLanguage() {
  document.documentElement.lang = TAGS[current];
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-text]")) {
    setText(element, element.dataset.text, parameters.get(element));
  }
  for (const attribute of Object.keys(ATTRIBUTES)) {
    for (const element of document.querySelectorAll(`[data-${attribute}]`)) {
      setAttributeText(element, attribute, element.dataset[attribute], parameters.get(element));
    }
  }
}
