//! What the slots of facts are filled with: names, numbers, dates, prices. Half of all names are made up of syllables, so
//! that what is learnt is to copy them, not to know them.

use super::language::Language;
use super::random::Random;
use super::words::{
    ADJECTIVES, CHINESE_ADJECTIVES, CHINESE_CITIES, CHINESE_PRODUCTS, CITIES, CODAS, DAYS, FIRST,
    GIVEN, LAST, MONTHS, ONSETS, PRODUCTS, SURNAMES, VOWELS,
};

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
            true => random.word(CITIES).to_owned(),
            false => invented(random),
        },
        "street" => {
            let name =
                if random.chance(0.5) { random.word(LAST).to_owned() } else { invented(random) };
            format!(
                "{} {name} {}",
                random.within(1..=399),
                random.pick(&["Street", "Road", "Lane", "Avenue", "Square"])
            )
        }
        "product" => match random.chance(0.75) {
            true => format!("{} {}", random.word(ADJECTIVES), random.word(PRODUCTS)),
            false => format!("{} {}", random.word(PRODUCTS), code(random)),
        },
        "time" => english_time(random),
        "date" => match random.below(3) {
            0 => format!("{} {}", random.within(1..=28), random.word(MONTHS)),
            1 => format!("the {} of {}", ordinal(random.within(1..=28)), random.word(MONTHS)),
            _ => format!("{} {}", random.word(MONTHS), random.within(1..=28)),
        },
        "day" => random.word(DAYS).to_owned(),
        "month" => random.word(MONTHS).to_owned(),
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
            let name = format!("{}{}", random.word(SURNAMES), han(random, GIVEN, 1..=2));
            match random.below(5) {
                0 => format!(
                    "{}{}",
                    random.word(SURNAMES),
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
            true => random.word(CHINESE_CITIES).to_owned(),
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
                format!("{}{}", random.word(CHINESE_ADJECTIVES), random.word(CHINESE_PRODUCTS))
            }
            false => format!("{}{}", code(random), random.word(CHINESE_PRODUCTS)),
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
    let last = if random.chance(0.5) { random.word(LAST).to_owned() } else { invented(random) };
    match random.below(6) {
        0 => format!("{} {last}", random.pick(&["Mr", "Ms", "Mrs", "Dr", "Professor"])),
        1 => format!("{} {last}", invented(random)),
        _ => format!("{} {last}", random.word(FIRST)),
    }
}

fn english_company(random: &mut Random) -> String {
    let name = if random.chance(0.3) { random.word(LAST).to_owned() } else { invented(random) };
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
        name.push_str(random.word(ONSETS));
        name.push_str(random.word(VOWELS));
        if random.chance(0.35) {
            name.push_str(random.word(CODAS));
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
