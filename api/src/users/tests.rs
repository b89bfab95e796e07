//! Accounts on a SQLite file, at times that the tests choose.

use tempfile::TempDir;

use super::*;
use crate::storage::sqlite_url;

const NOW: i64 = 1_700_000_000_000;
const SECOND: i64 = 1000;
const PASSWORD: &str = "correct horse";

struct Place {
    _folder: TempDir,
    storage: Storage,
    users: Users,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&sqlite_url(&folder.path().join("yingda.sqlite"))).await.unwrap();
        Self { _folder: folder, users: Users::new(storage.clone()), storage }
    }

    async fn user(&self, login: &str, role: Role) -> User {
        self.users.create(new_user(login, role), NOW).await.unwrap()
    }

    async fn is_logged_in(&self, token: &str, at: i64) -> bool {
        self.users.logged_in(token, at).await.unwrap().is_some()
    }
}

fn new_user(login: &str, role: Role) -> NewUser {
    NewUser {
        login: login.into(),
        name: format!("客服 {}", login.trim().to_lowercase()),
        role,
        team: Some(" 售后 ".into()),
        password: PASSWORD.into(),
    }
}

fn disabled(disabled: bool) -> UserChange {
    UserChange { disabled: Some(disabled), ..UserChange::default() }
}

fn role(role: Role) -> UserChange {
    UserChange { role: Some(role), ..UserChange::default() }
}

#[test]
fn a_login_name_is_the_same_however_it_is_typed() {
    for (typed, kept) in [
        ("xiaowang", "xiaowang"),
        (" XiaoWang ", "xiaowang"),
        ("ｘｉａｏｗａｎｇ", "xiaowang"),
        ("小王@shop.cn", "小王@shop.cn"),
        ("a.b_c-1", "a.b_c-1"),
        ("E\u{301}mile", "\u{e9}mile"),
    ] {
        assert_eq!(checked_login(typed).unwrap(), kept);
    }
    assert!(checked_login(&"x".repeat(64)).is_ok());
    let long = "x".repeat(65);
    for bad in
        ["", "  ", "a b", "a\0", "\u{200b}a", "' OR 1=1 --", "a'; DROP TABLE users; --", "😀", "a\u{202e}b", &long]
    {
        assert!(matches!(checked_login(bad), Err(UserError::LoginForm)), "{bad:?}");
    }
    for letter in '\0'..=char::MAX {
        if let Ok(kept) = checked_login(&letter.to_string()) {
            assert_eq!(checked_login(&kept).ok().as_ref(), Some(&kept), "{letter:?} is kept as what is no login name");
        }
    }
}

#[test]
fn five_failures_within_a_quarter_of_an_hour_lock_for_a_quarter_of_an_hour() {
    let minutes = |minutes: [i64; 5]| minutes.map(|minute| NOW - minute * MINUTE);
    assert_eq!(locked_for(&[], NOW), None);
    assert_eq!(locked_for(&[NOW; 4], NOW), None);
    assert_eq!(locked_for(&[NOW; 5], NOW), Some(LOCK));
    assert_eq!(locked_for(&minutes([5, 6, 7, 8, 9]), NOW), Some(10 * MINUTE));
    assert_eq!(locked_for(&minutes([0, 1, 2, 3, 14]), NOW), Some(LOCK));
    assert_eq!(locked_for(&minutes([0, 1, 2, 3, 15]), NOW), None, "not within 15 minutes");
    assert_eq!(locked_for(&minutes([15, 15, 15, 15, 15]), NOW), None, "the lock has ended");
}

#[tokio::test]
async fn an_account_is_made_once_and_with_all_that_it_needs() {
    let place = Place::new().await;
    let made = place.user(" XiaoWang", Role::Agent).await;
    assert_eq!((made.login.as_str(), made.team.as_deref()), ("xiaowang", Some("售后")));
    assert_eq!(place.storage.users().await.unwrap(), std::slice::from_ref(&made));
    let again = place.users.create(new_user("xiaowang", Role::Admin), NOW).await;
    assert!(matches!(again, Err(UserError::LoginTaken(login)) if login == "xiaowang"));
    let same_name = NewUser { name: made.name.clone(), ..new_user("namesake", Role::Agent) };
    let again = place.users.create(same_name, NOW).await;
    assert!(matches!(again, Err(UserError::NameTaken(name)) if name == made.name), "tickets are assigned by name");
    let create = async |change: &dyn Fn(&mut NewUser)| {
        let mut new = new_user("xiaoli", Role::Agent);
        change(&mut new);
        place.users.create(new, NOW).await.map(|_| ()).unwrap_err()
    };
    assert!(matches!(create(&|new| new.login = "a b".into()).await, UserError::LoginForm));
    assert!(matches!(create(&|new| new.name = " ".into()).await, UserError::NameForm));
    assert!(matches!(create(&|new| new.name = "小\0王".into()).await, UserError::NameForm));
    assert!(matches!(create(&|new| new.name = "王".repeat(65)).await, UserError::NameForm));
    assert!(matches!(create(&|new| new.team = Some("a\nb".into())).await, UserError::TeamForm));
    assert!(matches!(create(&|new| new.role = Role::Caller).await, UserError::RoleForm));
    assert!(matches!(create(&|new| new.password = "short".into()).await, UserError::PasswordShort));
    assert_eq!(place.storage.users().await.unwrap().len(), 1, "what was refused is not there");
}

#[tokio::test]
async fn the_lock_counts_guesses_and_ends_by_itself_or_with_a_new_password() {
    let place = Place::new().await;
    let user = place.user("xiaowang", Role::Agent).await;
    let log_in = async |password: &str, at: i64| place.users.log_in("XiaoWang", password, at).await;
    for minute in 0..4 {
        assert!(matches!(log_in("wrong", NOW + minute * MINUTE).await, Err(UserError::WrongLogin)));
    }
    assert!(log_in(PASSWORD, NOW + 4 * MINUTE).await.is_ok(), "four are no five");
    let start = NOW + 5 * MINUTE;
    for second in 0..5 {
        assert!(matches!(log_in("wrong", start + second * SECOND).await, Err(UserError::WrongLogin)), "{second}");
    }
    let last = start + 4 * SECOND;
    for password in ["wrong", PASSWORD] {
        let refused = log_in(password, last + MINUTE).await.err();
        assert!(
            matches!(refused, Some(UserError::Locked { milliseconds }) if milliseconds == LOCK - MINUTE),
            "{refused:?}"
        );
    }
    assert!(matches!(log_in(PASSWORD, last + LOCK - 1).await, Err(UserError::Locked { milliseconds: 1 })));
    assert!(log_in(PASSWORD, last + LOCK).await.is_ok());

    let later = NOW + HOUR;
    for _ in 0..5 {
        assert!(log_in("wrong", later).await.is_err());
    }
    assert!(matches!(log_in(PASSWORD, later).await, Err(UserError::Locked { .. })));
    let change = UserChange { password: Some("another horse".into()), ..UserChange::default() };
    place.users.change(&user.id, change, None, later).await.unwrap();
    assert!(log_in("another horse", later).await.is_ok(), "an admin's new password ends the lock");

    // A name that nobody has is answered, counted and locked alike.
    for _ in 0..5 {
        assert!(matches!(place.users.log_in("nobody", PASSWORD, later).await, Err(UserError::WrongLogin)));
    }
    assert!(matches!(place.users.log_in("nobody", PASSWORD, later).await, Err(UserError::Locked { .. })));
    let made = place.users.create(new_user("nobody", Role::Agent), later).await;
    assert!(made.is_ok() && place.users.log_in("nobody", PASSWORD, later).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_once_are_no_more_than_guesses_in_turn() {
    let place = Place::new().await;
    place.user("xiaowang", Role::Agent).await;
    let mut guesses = tokio::task::JoinSet::new();
    for number in 0..40 {
        let users = place.users.clone();
        guesses.spawn(async move { users.log_in("xiaowang", &format!("guess {number}"), NOW).await.err() });
    }
    let outcomes = guesses.join_all().await;
    let looked_at = outcomes.iter().filter(|outcome| matches!(outcome, Some(UserError::WrongLogin))).count();
    assert_eq!(looked_at, 5, "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Some(UserError::WrongLogin | UserError::Locked { .. }))));
}

#[tokio::test]
async fn a_login_ends_after_half_a_day_without_use_and_after_a_week() {
    let place = Place::new().await;
    place.user("xiaowang", Role::Agent).await;
    let one = place.users.log_in("xiaowang", PASSWORD, NOW).await.unwrap();
    assert!(place.is_logged_in(&one.token, NOW + IDLE - 1).await, "the last moment, and it is noted");
    assert!(place.is_logged_in(&one.token, NOW + 2 * IDLE - 2).await);
    assert!(!place.is_logged_in(&one.token, NOW + 3 * IDLE).await);

    let two = place.users.log_in("xiaowang", PASSWORD, NOW).await.unwrap();
    assert!(!place.is_logged_in(&two.token, NOW + IDLE).await, "never used");
    let three = place.users.log_in("xiaowang", PASSWORD, NOW).await.unwrap();
    let mut at = NOW;
    while at < NOW + LONGEST {
        assert!(place.is_logged_in(&three.token, at).await, "after {} hours", (at - NOW) / HOUR);
        at += 6 * HOUR;
    }
    assert!(!place.is_logged_in(&three.token, NOW + LONGEST).await, "however much it was used");
    assert_ne!((&one.token, &one.csrf_token), (&two.token, &two.csrf_token));

    // Seen from before its end, what was removed is gone all the same.
    place.users.forget(NOW + LONGEST - 1).await.unwrap();
    assert!(place.is_logged_in(&three.token, NOW).await, "not expired yet");
    assert!(!place.is_logged_in(&two.token, NOW).await);
    place.users.forget(NOW + LONGEST).await.unwrap();
    assert!(!place.is_logged_in(&three.token, NOW).await);
}

#[tokio::test]
async fn what_changes_a_persons_rights_logs_them_out() {
    let place = Place::new().await;
    place.user("boss", Role::Admin).await;
    let user = place.user("xiaowang", Role::Agent).await;
    let other = place.user("xiaoli", Role::Agent).await;
    let others = place.users.log_in("xiaoli", PASSWORD, NOW).await.unwrap();
    let change = async |change: UserChange| place.users.change(&user.id, change, None, NOW).await.unwrap();
    let named = UserChange { name: Some(" 王 ".into()), team: Some(String::new()), ..UserChange::default() };
    let password = UserChange { password: Some("another horse".into()), ..UserChange::default() };
    let (mut known, mut stays) = (PASSWORD, true);
    for change_to in [named, role(Role::Agent), role(Role::Supervisor), password, disabled(true)] {
        let login = place.users.log_in("xiaowang", known, NOW).await.unwrap();
        stays &= change_to.name.is_some() || change_to.role == Some(Role::Agent);
        if change_to.password.is_some() {
            known = "another horse";
        }
        let after = change(change_to).await;
        assert_eq!(place.is_logged_in(&login.token, NOW).await, stays, "{after:?}");
        assert_eq!((after.name.as_str(), after.team), ("王", None));
    }
    assert!(matches!(place.users.log_in("xiaowang", known, NOW).await, Err(UserError::Disabled)));
    assert!(matches!(place.users.log_in("xiaowang", "wrong", NOW).await, Err(UserError::WrongLogin)));
    assert!(change(disabled(false)).await.disabled_at.is_none());
    assert!(place.users.log_in("xiaowang", known, NOW).await.is_ok());
    assert!(place.is_logged_in(&others.token, NOW).await, "nobody else is logged out");
    assert_eq!(place.storage.user(&other.id).await.unwrap().unwrap().name, other.name);
}

#[tokio::test]
async fn ones_own_password_wants_the_old_one_and_ends_the_other_browsers() {
    let place = Place::new().await;
    place.user("xiaowang", Role::Agent).await;
    let (here, there) = (
        place.users.log_in("xiaowang", PASSWORD, NOW).await.unwrap(),
        place.users.log_in("xiaowang", PASSWORD, NOW).await.unwrap(),
    );
    let change = async |old: &str, new: &str| place.users.change_password("xiaowang", old, new, NOW).await;
    assert!(matches!(change("wrong", "another horse").await, Err(UserError::WrongLogin)));
    assert!(matches!(change(PASSWORD, "short").await, Err(UserError::PasswordShort)));
    assert!(place.is_logged_in(&here.token, NOW).await);
    let anew = change(PASSWORD, "another horse").await.unwrap();
    assert!(place.is_logged_in(&anew.token, NOW).await);
    for gone in [here, there] {
        assert!(!place.is_logged_in(&gone.token, NOW).await);
    }
    assert!(matches!(place.users.log_in("xiaowang", PASSWORD, NOW).await, Err(UserError::WrongLogin)));
    for _ in 0..4 {
        assert!(matches!(change("wrong", "third horse!").await, Err(UserError::WrongLogin)));
    }
    assert!(
        matches!(change("another horse", "third horse!").await, Err(UserError::Locked { .. })),
        "guesses count here too"
    );
}

#[tokio::test]
async fn one_admin_is_always_left() {
    let place = Place::new().await;
    let boss = place.user("boss", Role::Admin).await;
    let change = async |user: &User, change: UserChange, by: Option<&User>| {
        place.users.change(&user.id, change, by.map(|by| by.id.as_str()), NOW).await
    };
    for last in [role(Role::Supervisor), disabled(true)] {
        assert!(matches!(change(&boss, last, None).await, Err(UserError::LastAdmin)));
    }
    assert!(
        change(&boss, UserChange { name: Some("老板".into()), ..UserChange::default() }, Some(&boss)).await.is_ok()
    );
    let second = place.user("second", Role::Admin).await;
    assert!(matches!(change(&boss, disabled(true), Some(&boss)).await, Err(UserError::OwnAccount)));
    assert!(change(&second, disabled(true), Some(&boss)).await.is_ok());
    assert!(
        matches!(change(&boss, role(Role::Agent), None).await, Err(UserError::LastAdmin)),
        "who is disabled does not count"
    );
    assert!(change(&second, disabled(false), Some(&boss)).await.is_ok());
    assert!(change(&boss, role(Role::Agent), Some(&boss)).await.is_ok());
    assert!(matches!(change(&second, disabled(true), None).await, Err(UserError::LastAdmin)));
    let nobody = place.users.change(&new_id(), disabled(true), None, NOW).await;
    assert!(matches!(nobody, Err(UserError::NotFound(_))));
}

#[tokio::test]
async fn neither_password_nor_cookie_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let storage = Storage::open(&sqlite_url(&folder.path().join("yingda.sqlite"))).await.unwrap();
    let users = Users::new(storage.clone());
    users.create(new_user("xiaowang", Role::Agent), NOW).await.unwrap();
    let login = users.log_in("xiaowang", PASSWORD, NOW).await.unwrap();
    storage.close().await;
    let mut looked_at = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(PASSWORD) && !holds(&login.token));
        looked_at += usize::from(holds("xiaowang") && holds(&login.csrf_token));
    }
    assert!(looked_at > 0, "the account stands nowhere");
}
