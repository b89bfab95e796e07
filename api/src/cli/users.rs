//! `yingda users ...`: people's accounts. They may be managed while the service runs.

use std::io::{BufRead as _, IsTerminal as _};

use clap::{Args, Subcommand};
use yingda::StartError;
use yingda::auth::Role;
use yingda::config::Flags;
use yingda::storage::{Storage, User, now, rfc3339};
use yingda::users::{NewUser, UserChange, UserError, Users, checked_login, password};

use super::{open_database, say, wrong};

#[derive(Subcommand)]
pub(super) enum UsersCommand {
    /// Make an account
    Create {
        /// The name that others read, such as 小王
        #[arg(long)]
        name: String,
        /// What they log in with, such as xiaowang
        #[arg(long)]
        login: String,
        /// agent, supervisor or admin; each may also do what the ones before it may
        #[arg(long)]
        role: Role,
        /// The team that they belong to
        #[arg(long)]
        team: Option<String>,
        #[command(flatten)]
        password: PasswordFlags,
    },
    /// List people
    List,
    /// Give somebody a new password, which logs them out everywhere
    Password {
        /// Their login name
        login: String,
        #[command(flatten)]
        password: PasswordFlags,
    },
    /// Log somebody out and let them in no more
    Disable {
        /// Their login name
        login: String,
    },
    /// Let somebody in again
    Enable {
        /// Their login name
        login: String,
    },
}

/// Where a password comes from: the terminal, or without one nowhere, and then a random one is made and printed.
#[derive(Args)]
pub(super) struct PasswordFlags {
    /// Read the password from standard input, up to the end of the first line
    #[arg(long)]
    password_stdin: bool,
}

/// A password, and whether nobody knows it yet.
struct Password {
    text: String,
    made: bool,
}

pub(super) async fn run(flags: Flags, command: UsersCommand) -> Result<(), StartError> {
    let storage = open_database(flags).await?;
    let users = Users::new(storage.clone());
    match command {
        UsersCommand::Create { name, login, role, team, password } => {
            // What is wrong with the name is said before a password is asked for.
            let login = checked_login(&login)?;
            let password = read(&password)?;
            let new = NewUser { login, name, role, team, password: password.text.clone() };
            let user = users.create(new, now()).await?;
            say!("created {} ({}) with role {}", user.login, user.name, user.role);
            show(&password);
        }
        UsersCommand::List => list(&storage.users().await?),
        UsersCommand::Password { login, password } => {
            let user = find(&storage, &login).await?;
            let password = read(&password)?;
            let change = UserChange { password: Some(password.text.clone()), ..UserChange::default() };
            users.change(&user.id, change, None, now()).await?;
            say!("{} has a new password and is logged out everywhere", user.login);
            show(&password);
        }
        UsersCommand::Disable { login } => {
            switch(&storage, &users, &login, true).await?;
            say!("{login} is logged out everywhere and cannot log in any more");
        }
        UsersCommand::Enable { login } => {
            switch(&storage, &users, &login, false).await?;
            say!("{login} can log in");
        }
    }
    storage.close().await;
    Ok(())
}

async fn find(storage: &Storage, login: &str) -> Result<User, StartError> {
    let found = match checked_login(login) {
        Ok(login) => storage.user_by_login(&login).await?,
        Err(_) => None,
    };
    Ok(found.map(|(user, _)| user).ok_or_else(|| UserError::NotFound(login.to_owned()))?)
}

async fn switch(storage: &Storage, users: &Users, login: &str, disabled: bool) -> Result<(), StartError> {
    let user = find(storage, login).await?;
    let change = UserChange { disabled: Some(disabled), ..UserChange::default() };
    users.change(&user.id, change, None, now()).await?;
    Ok(())
}

fn read(flags: &PasswordFlags) -> Result<Password, StartError> {
    if flags.password_stdin {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        read.map_err(|error| wrong(format!("no password can be read from standard input: {error}")))?;
        let text = line.strip_suffix('\n').unwrap_or(&line);
        let text = text.strip_suffix('\r').unwrap_or(text);
        return Ok(Password { text: text.to_owned(), made: false });
    }
    if std::io::stdin().is_terminal() {
        let ask = |prompt: &str| {
            let answer = rpassword::prompt_password(prompt);
            answer.map_err(|error| wrong(format!("the terminal gives no password ({error}); use --password-stdin")))
        };
        let text = ask("password (nothing for a random one): ")?;
        if !text.is_empty() {
            if ask("the same again: ")? != text {
                return Err(wrong("the two passwords are not the same; nothing was changed".to_owned()));
            }
            return Ok(Password { text, made: false });
        }
    }
    Ok(Password { text: password::random()?, made: true })
}

/// A password that was made is printed once. One that was typed is known.
fn show(password: &Password) {
    if password.made {
        say!("password: {}", password.text);
        eprintln!("keep it, it is not shown again; its owner changes it after the first log-in");
    }
}

fn list(users: &[User]) {
    say!("{:<36}  {:<10}  {:<24}  {:<24}  login (name, team)", "id", "role", "last login", "disabled");
    for user in users {
        let last = user.last_login_at.map_or_else(|| "-".to_owned(), rfc3339);
        let disabled = user.disabled_at.map_or_else(|| "-".to_owned(), rfc3339);
        let team = user.team.as_deref().map(|team| format!(", {team}")).unwrap_or_default();
        say!(
            "{:<36}  {:<10}  {last:<24}  {disabled:<24}  {} ({}{team})",
            user.id,
            user.role.as_str(),
            user.login,
            user.name
        );
    }
}
