use proptest::prelude::*;

use super::*;

const HOUR: i64 = 60 * MINUTE;

fn calendar(toml: &str) -> Calendar {
    toml::from_str(toml).unwrap()
}

/// Nine to six with a break on weekdays.
fn office(more: &str) -> Calendar {
    let shifts = r#"["09:00-12:00", "13:00-18:00"]"#;
    let days = ["monday", "tuesday", "wednesday", "thursday", "friday"];
    let week: String = days.iter().map(|day| format!("{day} = {shifts}\n")).collect();
    calendar(&format!("{week}{more}"))
}

/// `2026-10-01 09:30` in China, as milliseconds since 1970.
fn at(text: &str) -> i64 {
    let (day, time) = text.split_once(' ').unwrap();
    moment(day_number(day).unwrap(), time_of_day(time).unwrap())
}

fn problems(toml: &str) -> Vec<String> {
    let settings: CalendarSettings = toml::from_str(toml).unwrap();
    Calendar::new(settings).unwrap_err().problems
}

#[test]
fn days_are_those_of_china() {
    assert_eq!(at("1970-01-01 08:00"), 0);
    assert_eq!(at("2026-10-01 00:00"), 1_790_784_000_000);
    assert_eq!(weekday(day_number("2026-10-01").unwrap()), Weekday::Thursday as usize);
    assert_eq!(day_number("0001-01-01"), Some(FIRST_DAY));
    assert_eq!(day_number("9999-12-31"), Some(LAST_DAY));
}

#[test]
fn open_from_the_first_millisecond_to_before_the_last() {
    let office = office("");
    for (moment, open) in [
        (at("2026-03-02 09:00") - 1, false),
        (at("2026-03-02 09:00"), true),
        (at("2026-03-02 12:00") - 1, true),
        (at("2026-03-02 12:00"), false),
        (at("2026-03-02 13:00"), true),
        (at("2026-03-02 18:00"), false),
        (at("2026-03-07 10:00"), false),
        (at("2026-03-08 10:00"), false),
    ] {
        assert_eq!(office.is_open(moment), open, "{moment}");
    }
}

#[test]
fn deadlines_pass_breaks_nights_and_weekends() {
    let office = office("");
    for (from, hours, deadline) in [
        ("2026-03-02 09:00", 0, "2026-03-02 09:00"),
        ("2026-03-02 09:00", 3, "2026-03-02 12:00"),
        ("2026-03-02 09:00", 4, "2026-03-02 14:00"),
        ("2026-03-02 17:00", 1, "2026-03-02 18:00"),
        ("2026-03-02 17:00", 2, "2026-03-03 10:00"),
        ("2026-03-06 17:00", 2, "2026-03-09 10:00"),
        ("2026-03-07 11:00", 1, "2026-03-09 10:00"),
        ("2026-03-02 09:00", 40, "2026-03-06 18:00"),
        ("2026-03-02 09:00", 41, "2026-03-09 10:00"),
        // The leap day of 2028 is a Tuesday.
        ("2028-02-28 17:00", 2, "2028-02-29 10:00"),
        ("2028-02-29 17:00", 2, "2028-03-01 10:00"),
    ] {
        let (from, deadline) = (at(from), at(deadline));
        assert_eq!(office.add_working(from, hours * HOUR), Some(deadline), "{from} and {hours} hours");
        assert_eq!(office.working_between(from, deadline), hours * HOUR);
    }
}

#[test]
fn the_official_days_of_2026() {
    let plain = office("");
    let official = office("official_years = [2026]");
    let working = ["2026-01-04", "2026-02-14", "2026-02-28", "2026-05-09", "2026-09-20", "2026-10-10"];
    for day in working {
        let noon = at(&format!("{day} 10:00"));
        assert!(!plain.is_open(noon), "{day} lies on a weekend");
        assert!(official.is_open(noon), "{day}");
    }
    // Around the Spring Festival: Friday the 13th, Saturday the 14th is made up, then nobody until Tuesday the 24th.
    assert_eq!(official.add_working(at("2026-02-13 17:00"), 9 * HOUR), Some(at("2026-02-14 18:00")));
    assert_eq!(official.next_open(at("2026-02-14 18:00")), Some(at("2026-02-24 09:00")));
    assert_eq!(official.working_between(at("2026-02-15 00:00"), at("2026-02-24 00:00")), 0);
    let (new_year, next) = (at("2026-01-01 00:00"), at("2027-01-01 00:00"));
    // 33 days off, 9 of them Saturdays or Sundays that were free anyhow, and 6 made up.
    let days = (plain.working_between(new_year, next) - official.working_between(new_year, next)) / (8 * HOUR);
    let off = 33;
    let weekends = (0..7 * 53)
        .map(|day| at("2026-01-01 10:00") + day * DAY)
        .filter(|noon| *noon < next && !plain.is_open(*noon))
        .filter(|noon| {
            let (day, _) = day_and_time(*noon);
            official.exceptions.get(&day).is_some_and(|shifts| shifts.0.is_empty())
        })
        .count() as i64;
    assert_eq!(official.exceptions.values().filter(|shifts| shifts.0.is_empty()).count(), off as usize);
    assert_eq!(days, off - weekends - working.len() as i64);
}

#[test]
fn own_days_go_before_official_ones() {
    let own = office(
        "official_years = [2026]\nworking_days = [{ date = 2026-10-02, like = \"friday\" }]\n\
         holidays = [{ name = \"盘点\", from = \"2026-10-10\" }]",
    );
    assert!(own.is_open(at("2026-10-02 10:00")));
    assert!(!own.is_open(at("2026-10-01 10:00")));
    assert!(!own.is_open(at("2026-10-10 10:00")));
}

#[test]
fn a_shift_past_midnight_belongs_to_the_day_on_which_it_begins() {
    let nights = calendar(
        "thursday = [\"22:00-06:00\"]\nfriday = [\"22:00-06:00\"]\nsaturday = [\"05:00-08:00\"]\n\
         holidays = [{ from = 2026-03-06 }]",
    );
    // Thursday the 5th is worked into the holiday, Friday the 6th not at all, Saturday as ever.
    assert!(nights.is_open(at("2026-03-06 05:59")));
    assert!(!nights.is_open(at("2026-03-06 06:00")));
    assert!(!nights.is_open(at("2026-03-06 23:00")));
    assert!(!nights.is_open(at("2026-03-07 04:59")));
    assert_eq!(nights.next_open(at("2026-03-06 06:00")), Some(at("2026-03-07 05:00")));
    // A week later Friday's night and Saturday's morning overlap from 5 to 6, which is worked once.
    assert_eq!(nights.working_between(at("2026-03-13 12:00"), at("2026-03-14 12:00")), 10 * HOUR);
    assert_eq!(nights.add_working(at("2026-03-13 22:00"), 9 * HOUR), Some(at("2026-03-14 07:00")));
}

#[test]
fn a_calendar_that_never_opens_says_so() {
    let never = Calendar::new(CalendarSettings::default()).unwrap();
    assert!(!never.is_open(0));
    assert_eq!(never.next_open(0), None);
    assert_eq!(never.add_working(0, 1), None);
    assert_eq!(never.working_between(i64::MIN, i64::MAX), 0);
    let ended = calendar("monday = [\"09:00-10:00\"]\nofficial_years = [2026]");
    assert_eq!(ended.add_working(0, i64::MAX), None);
    assert_eq!(ended.next_open(i64::MAX), None);
    assert!(ended.working_between(i64::MIN, i64::MAX) > 500_000 * HOUR);
}

#[test]
fn the_whole_day_is_around_the_clock() {
    let always = calendar(
        &["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
            .map(|day| format!("{day} = [\"00:00-24:00\"]\n"))
            .concat(),
    );
    let from = at("2026-03-02 10:17");
    assert_eq!(always.working_between(from, from + 1000 * DAY + 1), 1000 * DAY + 1);
    assert_eq!(always.add_working(from, 1000 * DAY + 1), Some(from + 1000 * DAY + 1));
}

#[test]
fn everything_wrong_is_told_with_its_field() {
    let told = problems(
        r#"
        monday = ["9-18", "24:00-03:00", "10:00-10:00"]
        friday = ["09:00-13:00", "12:00-18:00"]
        official_years = [1999]
        holidays = [
            { from = "2026-02-30" },
            { from = 2026-05-05, to = 2026-05-01 },
            { from = 2026-05-05, to = 2036-05-01 },
            { from = 2026-06-01, to = "2026/06/02" },
            { from = 2026-07-01 },
        ]
        working_days = [
            { date = "tomorrow", like = "friday" },
            { date = 2026-07-01, like = "friday" },
            { date = 2026-08-01, like = "sunday" },
            { date = 2026-08-01, like = "friday" },
        ]"#,
    );
    for part in [
        "`monday`: `9-18` is no shift",
        "`monday`: `24:00-03:00` begins at 24:00",
        "`monday`: `10:00-10:00` ends when it begins",
        "`friday`: 09:00-13:00 and 12:00-18:00 overlap",
        "`official_years`: the holidays of 1999",
        "`holidays`: `2026-02-30` is no day",
        "`holidays`: 2026-05-05 lies after 2026-05-01",
        "`holidays`: 2026-05-05 to 2036-05-01 is longer",
        "`holidays`: `2026/06/02` is no day",
        "`working_days`: `tomorrow` is no day",
        "`working_days`: 2026-07-01 stands in `holidays` too",
        "`working_days`: 2026-08-01 has the shifts of a weekday that has none",
        "`working_days`: 2026-08-01 stands there twice",
    ] {
        assert!(told.iter().any(|problem| problem.starts_with(part)), "{part} in {told:#?}");
    }
    assert_eq!(told.len(), 13, "{told:#?}");
    let error = toml::from_str::<Calendar>("monday = [\"9-18\"]").unwrap_err().to_string();
    assert!(error.contains("`monday`: `9-18` is no shift"), "{error}");
    assert!(toml::from_str::<Calendar>("mondays = []").is_err());
}

#[test]
fn it_is_written_as_it_was_read() {
    let office = office("official_years = [2026]\nholidays = [{ from = 2026-03-02 }]");
    let written = toml::to_string(&office).unwrap();
    assert_eq!(toml::from_str::<Calendar>(&written).unwrap(), office);
    assert_eq!(office.settings().holidays[0].from, Day("2026-03-02".to_owned()));
}

fn weekday_shifts() -> impl Strategy<Value = Vec<String>> {
    let minute = |minute: i64| format!("{:02}:{:02}", minute / 60, minute % 60);
    prop::collection::btree_set(0..1440i64, 0..6).prop_flat_map(move |borders| {
        let borders: Vec<i64> = borders.into_iter().collect();
        // With an odd border the last shift passes midnight, if it may.
        (Just(borders), 0..1440i64).prop_map(move |(borders, end)| {
            borders
                .chunks(2)
                .filter_map(|pair| match pair {
                    [start, end] => Some(format!("{}-{}", minute(*start), minute(*end))),
                    [start] if end < *start => Some(format!("{}-{}", minute(*start), minute(end))),
                    _ => None,
                })
                .collect()
        })
    })
}

/// Any week, with any holidays and made-up days between the end of 2027 and the summer of 2028, a leap year.
fn settings() -> impl Strategy<Value = CalendarSettings> {
    let week = prop::collection::vec(weekday_shifts(), 7);
    let exceptions = prop::collection::btree_map(0..200i64, (0..3usize, 0..7usize), 0..12);
    (week, exceptions).prop_map(|(week, exceptions)| {
        let [monday, tuesday, wednesday, thursday, friday, saturday, sunday] = week.try_into().unwrap();
        let names = [
            (Weekday::Monday, &monday),
            (Weekday::Tuesday, &tuesday),
            (Weekday::Wednesday, &wednesday),
            (Weekday::Thursday, &thursday),
            (Weekday::Friday, &friday),
            (Weekday::Saturday, &saturday),
            (Weekday::Sunday, &sunday),
        ];
        let day = |number: i64| {
            let date = time::Date::from_ordinal_date(2027, 350).unwrap() + time::Duration::days(number);
            Day(format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day()))
        };
        let (mut holidays, mut working_days) = (Vec::new(), Vec::new());
        for (number, (kind, weekday)) in exceptions {
            let (like, shifts) = names[weekday];
            if kind == 0 && !shifts.is_empty() {
                working_days.push(WorkingDay { date: day(number), like });
            } else {
                holidays.push(Holiday { name: None, from: day(number), to: None });
            }
        }
        CalendarSettings {
            monday,
            tuesday,
            wednesday,
            thursday,
            friday,
            saturday,
            sunday,
            official_years: Vec::new(),
            holidays,
            working_days,
        }
    })
}

/// Moments around the exceptions, most of them.
fn moments() -> impl Strategy<Value = i64> {
    let (from, to) = (at("2027-12-10 00:00"), at("2028-07-20 00:00"));
    prop_oneof![8 => from..to, 1 => at("1990-01-01 00:00")..at("2090-01-01 00:00")]
}

/// What the settings say of a minute, read without any of the code above but that for texts.
fn open_by_the_book(settings: &CalendarSettings, moment: i64) -> bool {
    let (day, time) = day_and_time(moment);
    let begins_on = |day: i64| {
        let week = [
            &settings.monday,
            &settings.tuesday,
            &settings.wednesday,
            &settings.thursday,
            &settings.friday,
            &settings.saturday,
            &settings.sunday,
        ];
        let is_holiday = settings.holidays.iter().any(|holiday| day_number(&holiday.from.0) == Some(day));
        let made_up = settings.working_days.iter().find(|working| day_number(&working.date.0) == Some(day));
        let written = match made_up {
            _ if is_holiday => return Vec::new(),
            Some(working) => week[working.like as usize],
            None => week[weekday(day)],
        };
        written.iter().map(|text| span(text).unwrap()).collect()
    };
    begins_on(day).iter().any(|(start, end)| (*start..*end).contains(&time))
        || begins_on(day - 1).iter().any(|(start, end)| (*start..*end).contains(&(time + DAY)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn work_is_the_minutes_that_are_open(settings in settings(), from in moments(), minutes in 0..6000i64) {
        let calendar = Calendar::new(settings.clone()).unwrap();
        let from = from.div_euclid(MINUTE) * MINUTE;
        let mut open = 0;
        for minute in 0..minutes {
            let moment = from + minute * MINUTE;
            prop_assert_eq!(calendar.is_open(moment), open_by_the_book(&settings, moment));
            open += i64::from(calendar.is_open(moment));
        }
        prop_assert_eq!(calendar.working_between(from, from + minutes * MINUTE), open * MINUTE);
        prop_assert_eq!(calendar.working_between(from + minutes * MINUTE, from), 0);
    }

    #[test]
    fn a_deadline_is_the_first_moment_with_that_much_work(
        settings in settings(),
        from in moments(),
        span in prop_oneof![1..20 * DAY, 1..2000 * DAY],
    ) {
        let calendar = Calendar::new(settings).unwrap();
        match calendar.add_working(from, span) {
            Some(deadline) => {
                prop_assert_eq!(calendar.working_between(from, deadline), span);
                prop_assert_eq!(calendar.working_between(from, deadline - 1), span - 1);
                prop_assert!(calendar.is_open(deadline - 1));
            }
            None => prop_assert!(calendar.working_between(from, i64::MAX) < span),
        }
    }

    #[test]
    fn pieces_add_up_and_deadlines_keep_their_order(
        settings in settings(),
        mut between in prop::collection::vec(moments(), 3),
        mut spans in prop::collection::vec(0..400 * DAY, 2),
    ) {
        let calendar = Calendar::new(settings).unwrap();
        between.sort_unstable();
        spans.sort_unstable();
        let whole = calendar.working_between(between[0], between[2]);
        let parts = [0, 1].map(|at| calendar.working_between(between[at], between[at + 1]));
        prop_assert_eq!(parts.iter().sum::<i64>(), whole);
        let late = |from: i64, span: i64| calendar.add_working(from, span).unwrap_or(i64::MAX);
        prop_assert!(late(between[0], spans[0]) <= late(between[0], spans[1]));
        prop_assert!(late(between[0], spans[0]) <= late(between[1], spans[0]));
    }

    #[test]
    fn the_next_opening_is_open_and_nothing_before_it(settings in settings(), from in moments()) {
        let calendar = Calendar::new(settings).unwrap();
        match calendar.next_open(from) {
            Some(next) => {
                prop_assert!(next >= from && calendar.is_open(next));
                prop_assert_eq!(calendar.working_between(from, next), 0);
                prop_assert_eq!(next == from, calendar.is_open(from));
            }
            None => prop_assert_eq!(calendar.working_between(from, i64::MAX), 0),
        }
    }

    #[test]
    fn no_number_and_no_text_makes_it_panic(settings in settings(), a in any::<i64>(), b in any::<i64>(), text in "\\PC{0,12}") {
        let calendar = Calendar::new(settings.clone()).unwrap();
        let _ = (calendar.is_open(a), calendar.next_open(a), calendar.working_between(a, b), calendar.add_working(a, b));
        let wild = CalendarSettings {
            monday: vec![text.clone()],
            holidays: vec![Holiday { name: None, from: Day(text), to: None }],
            ..settings
        };
        let _ = Calendar::new(wild);
    }
}
