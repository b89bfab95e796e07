//! The agents' console in real browsers, where `YINGDA_TEST_CHROMEDRIVER` names a chromedriver with its Chromium; and its files.
//!
//! `YINGDA_TEST_SCREENSHOTS` names a folder for the pictures of the console in docs/.

use std::{collections::BTreeSet, time::Duration};

use axum::http::header;
use serde_json::{Value, json};
use yingda::{
    Config,
    config::{SAMPLE_KNOWLEDGE, SAMPLE_MODEL},
    desk::{Interventions, Surveys, settings::DeskSettings},
    outgoing::Deliverer,
    storage::now,
};

use crate::{
    browser::{ALT, CONTROL, Driver, ENTER, LEFT, PATIENCE, RIGHT, TAB},
    outgoing::Receiver,
    support::{Listening, PASSWORD, Place, root},
};

// The files.

#[tokio::test]
async fn every_file_of_the_console_is_served_and_nothing_from_elsewhere() {
    let place = Place::sqlite();
    let service = place.service().await;
    let mut seen = BTreeSet::new();
    let mut wanted = vec!["/console".to_owned()];
    while let Some(path) = wanted.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let file = service.get(&path).await;
        assert_eq!(file.status, 200, "{path}");
        let policy = file.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'"] {
            assert!(policy.split("; ").any(|rule| rule == part), "{path}: {policy}");
        }
        assert_eq!(file.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        let text = file.text();
        for forbidden in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "https://", " style=\""] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}");
        }
        wanted.extend(text.split('"').filter(|part| part.starts_with("/console/")).map(str::to_owned));
        let modules = text.split('"').filter_map(|part| part.strip_prefix("./"));
        wanted.extend(modules.map(|name| format!("/console/{name}")));
    }
    let shipped = std::fs::read_dir(root().join("api/console")).unwrap().count();
    assert_eq!(seen.len(), shipped, "a file is never used: {seen:?}");
    for missing in ["/console/other.js", "/console/..%2fpage%2fchat.js", "/console/index.html"] {
        assert_eq!(service.get(missing).await.status, 404, "{missing}");
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

async fn turns(service: &Listening, session: &str) -> Vec<Value> {
    service.get(&format!("/v1/sessions/{session}")).await["turns"].as_array().unwrap().clone()
}

// The story.

const ANGRY: &str = "你们就是骗子!!再不退钱我打12315";

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_helped_by_the_bot_and_by_two_people() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let service = Listening::start(Config::local(root().join(SAMPLE_MODEL), place.data())).await;
    let entries = yingda::knowledge::read(&root().join(SAMPLE_KNOWLEDGE)).unwrap();
    let known = entries.iter().find(|entry| entry.id == "tuikuan-03").unwrap().clone();
    let begun = service.service.state.base().begin_replace(&entries, "test", "").await.unwrap();
    service.service.state.base().finish(begun, |_, _| {}).await.unwrap();
    // Others wait too.
    for (number, words) in
        ["想问下发票怎么开，转人工", "尺码不合适，我要人工", "收到的杯子是碎的，我要投诉", "人工客服在吗"]
            .iter()
            .enumerate()
    {
        let other = service.chat(&format!("other-{number}"), &format!("U{}", 1000 + number), words).await;
        let path = format!("/v1/tickets/{}/transfer", string(&other["ticket_id"]));
        service.send("POST", &path, json!({ "team": "门店" })).await;
    }

    // The bot answers, the customer gets angry, a ticket opens.
    let customer = driver.browser(&service, false).await;
    customer.go("/").await;
    customer.write("#key", &(service.key.clone() + ENTER)).await;
    customer.until("document.querySelector('#key-form').hidden").await;
    customer.write("#text", &(known.question.clone() + ENTER)).await;
    customer.sees(".turn.bot .bubble", &known.answer).await;
    customer.write("#text", &(ANGRY.to_owned() + ENTER)).await;
    customer.sees("#banner", "已转人工").await;
    let session = string(&customer.read("sessionStorage.getItem('yingda-session')").await);
    let ticket = string(&service.get(&format!("/v1/sessions/{session}")).await["ticket"]["ticket_id"]);

    // Of two who are there it is offered to 小王, who knows about such things. She accepts it by the keyboard, and answers with a
    // suggestion.
    let about = string(&service.get(&format!("/v1/tickets/{ticket}")).await["category"]);
    let team = [("店员", "门店", json!({})), ("小李", "售后", json!({})), ("小王", "售前", json!({ about: 3 }))];
    for (name, team, skills) in team {
        let listed = json!({ "team": team, "capacity": 9, "skills": skills });
        service.send("PUT", &format!("/v1/desk/agents/{name}"), listed).await;
        if name != "店员" {
            service.present(name).await;
        }
    }
    service.route();
    let wang = driver.browser(&service, false).await;
    wang.go("/console#/queue/waiting").await;
    wang.log_in("xiaowang").await;
    wang.until("document.querySelectorAll('a.ticket').length === 4").await;
    wang.go("/console#/queue/mine").await;
    let row = format!("a.ticket[data-id='{ticket}']");
    wang.sees(&row, "负面").await;
    wang.sees(&row, "待接受").await;
    assert_eq!(wang.read("document.querySelectorAll('a.ticket').length").await, 1);
    let is_chosen = format!("document.activeElement === document.querySelector(\"{row}\")");
    for _ in 0..5 {
        if wang.read(&is_chosen).await == json!(false) {
            wang.press("j").await;
        }
    }
    wang.until(&is_chosen).await;
    wang.press(ENTER).await;
    wang.sees(".turn.user .bubble", ANGRY).await;
    wang.sees(".presence", "客户在线").await;
    wang.click("[data-action=take]").await;
    wang.sees(".state", "负责人 小王").await;
    wang.find("form.reply textarea").await;
    wang.sees(".suggestion", "采用 Alt+1").await;
    wang.write("form.reply textarea", &(ALT.to_owned() + "1")).await;
    let suggested = string(&wang.read("document.querySelector('.suggestion p').textContent").await);
    let written = string(&wang.read("document.querySelector('form.reply textarea').value").await);
    assert!(!suggested.is_empty() && written == suggested, "{written} is not {suggested}");
    wang.picture("console-light.png").await;
    wang.write("form.reply textarea", &(CONTROL.to_owned() + ENTER)).await;
    wang.sees(".turn.agent .bubble", &suggested).await;
    customer.sees(".turn.agent .bubble", &suggested).await;
    wang.sees(".presence", "回复已读").await;

    // It goes to another department, with the reason.
    wang.click("[data-action=transfer]").await;
    wang.write("dialog input[name=team]", "售后").await;
    wang.write("dialog textarea[name=reason]", "需要核实退款进度").await;
    wang.click("dialog[open] button[type=submit]").await;
    wang.sees(".state", "小李").await;
    wang.until("document.querySelector('form.reply').hidden").await;
    customer.write("#text", &("在吗？".to_owned() + ENTER)).await;
    wang.sees(".turn.user .bubble", "在吗？").await;

    // 小李 takes it, answers, resolves it with a note, and closes it. On a phone it looks fine too.
    let phone = driver.browser(&service, true).await;
    phone.go(&format!("/console#/ticket/{ticket}")).await;
    phone.log_in("xiaoli").await;
    phone.sees(".turn.user .bubble", "在吗？").await;
    phone.sees(".state", "待接受").await;
    phone.click("[data-action=take]").await;
    phone.write("form.reply textarea", "您好，我是售后小李，退款今天会到账。").await;
    customer.sees("#presence", "正在输入").await;
    phone.picture("console-phone.png").await;
    phone.click("form.reply button[type=submit]").await;
    customer.sees(".turn.agent .author", "小李").await;
    phone.close().await;

    let li = driver.browser(&service, false).await;
    li.go("/console#/settings").await;
    li.log_in("xiaoli").await;
    li.find("#theme").await;
    li.client.find("#theme option[value=dark]").await.click().await;
    assert_eq!(li.read("document.documentElement.dataset.theme").await, "dark");
    li.go("/console#/queue/mine").await;
    li.click(&row).await;
    li.sees(".turn.agent .bubble", "退款今天会到账").await;
    li.click("[data-action=resolve]").await;
    li.write("dialog textarea[name=note]", "已催财务，今天退款").await;
    li.click("dialog[open] button[type=submit]").await;
    li.sees(".state", "已解决").await;
    customer.sees(".turn.note .bubble", "智能客服继续为您服务").await;
    li.click("[data-action=close]").await;
    li.sees(".state", "已关闭").await;

    // The customer is asked how it was, once, and says so.
    let surveys = Surveys::new(service.service.state.storage().clone(), DeskSettings::default().survey);
    assert_eq!(surveys.send_due(now()).await.unwrap(), 1);
    assert_eq!(surveys.send_due(now()).await.unwrap(), 0);
    customer.sees(".turn.bot a.survey", "评价本次服务").await;
    let link = string(&customer.read("document.querySelector('a.survey').getAttribute('href')").await);
    let form = driver.browser(&service, true).await;
    form.go(&link).await;
    form.click(".scores label:nth-child(4)").await;
    form.click(".reasons label").await;
    let reason = string(&form.read("document.querySelector('.reasons :checked').value").await);
    form.click("button[type=submit]").await;
    form.sees("#thanks", "谢谢您的评价").await;
    form.close().await;

    // The bot serves again, and hands nothing over a second time.
    customer.write("#text", &(known.question.clone() + ENTER)).await;
    let answer = json!(known.answer);
    customer
        .until(&format!(
            "[...document.querySelectorAll('.turn.bot .bubble')].filter((node) => node.textContent.includes({answer})).length === 2"
        ))
        .await;
    customer.until("document.querySelector('#banner').hidden").await;
    let turns = turns(&service, &session).await;
    let roles: Vec<&str> = turns.iter().map(|turn| turn["role"].as_str().unwrap()).collect();
    assert_eq!(
        roles,
        ["user", "bot", "user", "bot", "agent", "user", "agent", "bot", "user", "bot"],
        "the bot was silent"
    );
    let decided = [3, 7, 9].map(|index: usize| turns[index]["decision"].as_str().unwrap());
    assert_eq!(decided, ["escalate", "survey", "reply"]);
    let tickets = service.get(&format!("/v1/tickets?session_id={session}")).await;
    assert_eq!(tickets["tickets"].as_array().unwrap().len(), 1, "{tickets}");

    // The console tells what the service tells.
    li.panel("timeline").await;
    li.sees(".timeline", &format!("客户评价 4 分：{reason}")).await;
    let story = service.get(&format!("/v1/tickets/{ticket}")).await;
    let told: Vec<&Value> = story["events"].as_array().unwrap().iter().map(|event| &event["kind"]).collect();
    let shown = li.read("[...document.querySelectorAll('.timeline li')].map((node) => node.dataset.kind)").await;
    assert_eq!(shown, json!(told));
    for sentence in [
        "智能客服转人工：",
        "把工单分配给 小王",
        "小王接受了工单",
        "小王回复了客户（采用建议）",
        "小王把工单转交给「售后」，原因：需要核实退款进度",
        "客户发来消息",
        "小李接受了工单",
        "小李解决了工单：已催财务，今天退款",
        "小李关闭了工单",
    ] {
        li.sees(".timeline li", sentence).await;
    }
    li.go("/console#/queue/done").await;
    li.go(&format!("/console#/ticket/{ticket}")).await;
    li.panel("timeline").await;
    li.sees(".timeline", "客户评价").await;
    li.sees(&row, "已关闭").await;
    li.picture("console-dark.png").await;

    let chen = driver.browser(&service, false).await;
    chen.go("/console#/knowledge").await;
    chen.log_in("chen").await;
    chen.write("input[name=q]", &("退款".to_owned() + ENTER)).await;
    chen.click("button.entry[data-id=tuikuan-03]").await;
    chen.sees(".editor h2", "tuikuan-03").await;
    chen.picture("console-knowledge.png").await;
    chen.write("textarea[name=answer]", "（新）").await;
    chen.click(".editor button[type=submit]").await;
    chen.sees(".editor .pill", "有草稿").await;
    let draft = service.get("/v1/knowledge/entries/tuikuan-03").await;
    assert_eq!(draft["draft"]["entry"]["answer"], json!(known.answer.clone() + "（新）"));
    assert_eq!(draft["draft"]["entry"]["similar_questions"], json!(known.similar_questions));
    chen.go("/console#/queue/waiting").await;
    chen.press("/").await;
    chen.press(&("催财务".to_owned() + ENTER)).await;
    chen.sees(".found mark", "催财务").await;
    chen.go("/console#/board").await;
    chen.sees(".tile", "待领取4").await;
    chen.go("/console#/reports").await;
    chen.sees(".report .card", "工单").await;
    chen.find(".report svg.bars").await;
    chen.go("/console#/users").await;
    chen.sees("td", "xiaowang").await;
    assert_eq!(chen.read("document.querySelectorAll('.notice.alarm').length").await, 0);
    for browser in [customer, wang, li, chen] {
        browser.close().await;
    }
    service.service.state.close().await;
}

// Afterwards.

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_answers_a_survey_by_keyboard_on_a_phone_and_a_supervisor_sees_an_alert() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let mut config = place.config();
    let rule = json!({ "name": "差评", "when": "rating_at_most", "score": 2, "action": "supervisor_alert" });
    config.desk.intervention = vec![serde_json::from_value(rule).unwrap()];
    config.desk.survey.nps_share = 1.0;
    let (survey, desk) = (config.desk.survey.clone(), config.desk.clone());
    let service = Listening::start(config).await;
    let surveys = Surveys::new(service.service.state.storage().clone(), survey);
    let phone = driver.browser(&service, true).await;
    phone.go("/").await;
    phone.write("#key", &(service.key.clone() + ENTER)).await;
    phone.until("document.querySelector('#key-form').hidden").await;
    let session = string(&phone.read("sessionStorage.getItem('yingda-session')").await);
    let ticket = string(&service.chat(&session, "u", "人工").await["ticket_id"]);
    for action in ["take", "resolve", "close"] {
        service.send("POST", &format!("/v1/tickets/{ticket}/{action}"), json!({ "agent": "小李" })).await;
    }
    assert_eq!(surveys.send_due(now()).await.unwrap(), 1);

    // The link is a button in the chat, and leads to the form.
    phone.go("/").await;
    phone.sees(".turn.bot a.survey", "评价本次服务").await;
    assert_eq!(
        phone.read("document.querySelector('.turn.bot:has(a.survey)').textContent.includes('/survey/')").await,
        false
    );
    phone.picture("survey-chat.png").await;
    let link = string(&phone.read("document.querySelector('a.survey').getAttribute('href')").await);
    phone.go(&link).await;
    phone.find("#survey").await;
    assert_eq!(phone.read("document.documentElement.scrollWidth <= innerWidth").await, true, "nothing is cut off");
    phone.picture("survey-empty.png").await;
    phone.press(TAB).await;
    for _ in 0..2 {
        phone.press(RIGHT).await;
    }
    assert_eq!(phone.read("document.querySelector('input[name=score]:checked').value").await, "3");
    phone.press(LEFT).await;
    assert_eq!(phone.read("document.querySelector('input[name=score]:checked').value").await, "2");
    phone.sees("#reasons", "回复太慢").await;
    phone.press(TAB).await;
    phone.press(" ").await;
    phone.picture("survey-phone.png").await;
    for _ in 0..5 {
        phone.press(TAB).await;
    }
    assert_eq!(phone.read("document.activeElement.id").await, "comment");
    phone.press("等了很久，电话13812345678").await;
    phone.press(TAB).await;
    phone.press(ENTER).await;
    phone.sees("#thanks", "谢谢您的评价").await;
    phone.picture("survey-thanks.png").await;
    let story = service.get(&format!("/v1/tickets/{ticket}")).await;
    assert_eq!((&story["rating"]["score"], &story["rating"]["reasons"]), (&json!(2), &json!(["回复太慢"])));
    assert!(!story.to_string().contains("13812345678"), "{story}");
    phone.client.refresh().await;
    phone.sees("#note", "您已经评价过了").await;
    phone.picture("survey-note.png").await;

    // The other kind, on the same phone.
    assert_eq!(surveys.send_due(now() + 8 * 24 * 3_600_000).await.unwrap(), 1);
    let last = turns(&service, &session).await.pop().unwrap();
    let text = string(&last["text"]);
    phone.go(&text[text.find("/survey/").unwrap()..]).await;
    phone.click(".scores label:nth-child(10)").await;
    phone.sees("#reasons", "服务好").await;
    phone.picture("survey-nps.png").await;
    phone.click("button[type=submit]").await;
    phone.sees("#thanks", "谢谢您的回答").await;
    phone.close().await;

    // The bad rating is told on the board, until a supervisor has seen it.
    let interventions = Interventions::new(service.service.state.storage().clone(), &desk);
    assert_eq!(interventions.intervene(now()).await.unwrap(), 1);
    let chen = driver.browser(&service, false).await;
    chen.go("/console#/board").await;
    chen.log_in("chen").await;
    chen.sees(".alerts .badge", "1").await;
    chen.sees(".alerts li", "差评").await;
    chen.picture("console-alerts.png").await;
    chen.click(".alerts li button").await;
    chen.until("document.querySelector('.alerts').hidden").await;
    chen.go("/console#/reports").await;
    chen.sees(".report .card", "净推荐值").await;
    chen.go(&format!("/console#/ticket/{ticket}")).await;
    chen.panel("timeline").await;
    for sentence in
        ["已请客户评价本次服务", "客户评价 2 分：回复太慢", "自动提醒主管：差评", "陈主管确认了提醒「差评」"]
    {
        chen.sees(".timeline li", sentence).await;
    }
    chen.close().await;
    service.service.state.close().await;
}

// What must not happen.

/// It would call itself the owner of the page if any of it ran.
const ATTACK: &str = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script><svg onload=\"document.title='owned'\">";

#[tokio::test(flavor = "multi_thread")]
async fn what_a_customer_writes_is_never_more_than_text() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let service = Listening::start(place.config()).await;
    let profile = json!({ "会员": ATTACK });
    let message =
        json!({ "session_id": ATTACK, "user_id": ATTACK, "channel": "web", "profile": profile, "text": "人工" });
    let ticket = string(&service.send("POST", "/v1/chat", message).await["ticket_id"]);
    service.chat(ATTACK, ATTACK, ATTACK).await;
    let act = |action: &str| format!("/v1/tickets/{ticket}{action}");
    service.send("POST", &act("/notes"), json!({ "agent": ATTACK, "text": ATTACK })).await;
    let change = json!({ "category": ATTACK, "tags": [ATTACK], "fields": { ATTACK: ATTACK }, "reason": ATTACK });
    service.send("PATCH", &act(""), change).await;
    service.send("POST", &act("/transfer"), json!({ "team": ATTACK, "reason": ATTACK })).await;

    let agent = driver.browser(&service, false).await;
    agent.go("/console#/queue/waiting").await;
    agent.log_in("chen").await;
    agent.sees("a.ticket strong", ATTACK).await;
    agent.click("a.ticket").await;
    agent.sees(".turn.user .bubble", ATTACK).await;
    agent.sees(".ticket-head h1", ATTACK).await;
    agent.panel("details").await;
    agent.sees("#panel-details .facts", ATTACK).await;
    agent.panel("timeline").await;
    agent.sees(".timeline li", ATTACK).await;
    let elements = "document.querySelectorAll('#desk img, #desk script, #desk svg[onload]').length";
    assert_eq!(agent.read(elements).await, 0, "something of it became an element");
    agent.press("/").await;
    agent.press(&("onerror".to_owned() + ENTER)).await;
    agent.sees(".found", "onerror=").await;
    assert_eq!(agent.read(elements).await, 0, "something of it became an element");
    assert_ne!(agent.client.title().await, "owned");
    agent.close().await;
    service.service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_offered_is_accepted_and_a_login_that_ends_costs_nothing_that_was_written() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let service = Listening::start(place.config()).await;
    let ticket = string(&service.chat("s", "u", "人工").await["ticket_id"]);
    let listed = json!({ "team": "售前", "capacity": 3 });
    service.send("PUT", "/v1/desk/agents/小王", listed).await;
    service
        .send("POST", &format!("/v1/tickets/{ticket}/assign"), json!({ "to": "小王", "reason": "熟悉这位客户" }))
        .await;
    let agent = driver.browser(&service, false).await;
    agent.go(&format!("/console#/ticket/{ticket}")).await;
    agent.write("#log-in input[name=login]", "xiaowang").await;
    agent.write("#log-in input[name=password]", &("wrong password".to_owned() + ENTER)).await;
    agent.sees("#log-in .problem", "登录名或密码").await;
    agent.client.refresh().await;
    agent.log_in("xiaowang").await;
    agent.find("#presence").await;
    let is_online = async {
        while service.get("/v1/desk/agents").await["agents"][0]["presence"] != "online" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, is_online).await.expect("the console does not say that somebody is there");
    agent.sees(".state", "待接受").await;
    agent.sees("[data-action=take]", "接受").await;
    agent.click("[data-action=take]").await;
    agent.sees(".state", "已领取").await;
    agent.write("form.reply textarea", "请稍等，我查一下").await;

    let cookie = agent.client.cookie("yingda_session").await;
    service.service.state.users().log_out(cookie["value"].as_str().unwrap()).await.unwrap();
    agent.sees("#log-in .quiet", "登录已失效").await;
    agent.log_in("xiaowang").await;
    assert_eq!(agent.read("document.querySelector('form.reply textarea').value").await, "请稍等，我查一下");
    agent.write("form.reply textarea", &(CONTROL.to_owned() + ENTER)).await;
    agent.sees(".turn.agent .bubble", "请稍等，我查一下").await;
    agent.close().await;
    service.service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_flow_asks_next_is_a_click_away_and_the_language_is_put_right() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let rules = Some(root().join("api/yingda.rules.example.toml"));
    let service = Listening::start(Config { rules, ..place.config() }).await;
    service.chat("s", "u", "查快递").await;
    let ticket = string(&service.chat("s", "u", "转人工").await["ticket_id"]);

    let agent = driver.browser(&service, false).await;
    agent.go(&format!("/console#/ticket/{ticket}")).await;
    agent.log_in("xiaowang").await;
    agent.click("[data-action=take]").await;
    agent.sees("[data-assist=step] strong", "还需要：订单号").await;
    agent.click("[data-assist=step] button").await;
    let written = agent.read("document.querySelector('form.reply textarea').value").await;
    assert!(string(&written).contains("订单号"), "{written}");
    agent.write("form.reply textarea", &(CONTROL.to_owned() + ENTER)).await;
    agent.sees(".turn.agent .bubble", "订单号").await;
    let events = service.get(&format!("/v1/tickets/{ticket}")).await["events"].as_array().unwrap().clone();
    let reply = events.iter().find(|event| event["kind"] == "agent_reply").unwrap();
    assert_eq!(reply["data"].get("suggestion"), None, "it is no suggestion of the knowledge");

    agent.panel("details").await;
    let select = "[...document.querySelectorAll('#panel-details label')].find((label) => label.textContent.includes('语言')).querySelector('select')";
    assert_eq!(agent.read(&format!("{select}.value")).await, "zh");
    agent.read(&format!("({select}.value = 'en', {select}.dispatchEvent(new Event('change')))")).await;
    agent.sees(".notice, [role=status]", "已保存").await;
    agent.panel("timeline").await;
    agent.sees(".timeline li", "语言由「中文」改为「英语」").await;
    agent.sees("a.ticket .pill", "英语").await;
    agent.close().await;
    service.service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_is_a_few_rows_and_new_tickets_announce_themselves() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let service = Listening::start(place.config()).await;
    for number in 0..260 {
        let form = json!({ "text": format!("请联系我 {number}"), "user_id": format!("u{number}"), "priority": "low" });
        service.send("POST", "/v1/tickets", form).await;
    }
    let agent = driver.browser(&service, false).await;
    agent.go("/console#/queue/waiting").await;
    agent.log_in("xiaowang").await;
    agent.sees(".count", "260 张工单").await;
    assert!(agent.read("document.querySelectorAll('a.ticket').length").await.as_i64().unwrap() < 40);
    let oldest = string(&agent.read("document.querySelector('a.ticket[aria-posinset=\"1\"]').dataset.id").await);
    agent.read("document.querySelector('.list').scrollTo(0, 1e6)").await;
    agent.until("document.querySelector('a.ticket[aria-posinset=\"260\"]')").await;
    assert!(agent.read("document.querySelectorAll('a.ticket').length").await.as_i64().unwrap() < 40);
    assert_eq!(agent.read(&format!("document.querySelector(\"[data-id='{oldest}']\")")).await, Value::Null);

    let urgent = service.chat("s", "u", "我要投诉你们").await;
    let urgent = string(&urgent["ticket_id"]);
    agent.until("document.title.startsWith('● 1 条提醒')").await;
    agent.sees(".notice.news", "新工单").await;
    agent.read("document.querySelector('.list').scrollTo(0, 0)").await;
    agent.until(&format!("document.querySelector('a.ticket[aria-posinset=\"1\"]')?.dataset.id === '{urgent}'")).await;
    agent.press("j").await;
    agent.until("!document.title.startsWith('●')").await;

    // What a colleague takes leaves this queue.
    service.send("POST", &format!("/v1/tickets/{urgent}/take"), json!({ "agent": "小李" })).await;
    agent.sees(".count", "260 张工单").await;
    agent.until(&format!("!document.querySelector(\"[data-id='{urgent}']\")")).await;

    // What is given to the person, and what its customer writes while something else is looked at.
    let given = string(&service.chat("s2", "u2", "我要投诉你们").await["ticket_id"]);
    service.send("POST", &format!("/v1/tickets/{given}/assign"), json!({ "to": "小王" })).await;
    agent.sees(".notice.news", "分配给您的工单").await;
    service.chat("s2", "u2", "三天了还没人理我").await;
    agent.sees(".notice.news", "客户有新消息").await;
    agent.sees(".notice.news", "三天了还没人理我").await;
    agent.press("?").await;
    agent.sees("dialog.keys", "领取工单").await;
    agent.close().await;
    service.service.state.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_connects_another_system_and_sends_again_what_did_not_arrive() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let service = Listening::start(place.config()).await;
    let (receiver, address) = Receiver::start().await;
    let chen = driver.browser(&service, false).await;
    chen.go("/console#/webhooks").await;
    chen.log_in("chen").await;
    chen.write("input[name=address]", &address).await;
    chen.click("form.card button[type=submit]").await;
    chen.find("dialog.secret input").await;
    let secret = string(&chen.read("document.querySelector('dialog.secret input').value").await);
    assert!(secret.starts_with("whsec_") && secret.len() == 70, "{secret}");
    chen.click("dialog.secret button[type=submit]").await;
    chen.sees(".webhooks td", &address).await;
    assert_eq!(chen.read("document.body.innerHTML.includes('whsec_')").await, false, "it is shown once");
    chen.click(".webhooks .test").await;
    chen.sees(".notice", "对方已收到").await;
    assert_eq!(receiver.received()[0].body["event"], "ping");
    chen.click(".webhooks .switch").await;
    chen.sees(".webhooks td", "已停用").await;
    chen.click(".webhooks .switch").await;
    chen.sees(".webhooks .switch", "停用").await;
    chen.until("!document.querySelector('.webhooks .disabled')").await;

    receiver.refuse(&["*"]);
    service.chat("s", "u", "转人工").await;
    let deliverer = Deliverer::new(service.service.state.storage().clone());
    let mut at = now();
    for _ in 0..7 {
        deliverer.deliver(at).await.unwrap();
        at += 7 * 60 * 60 * 1000;
    }
    chen.client.refresh().await;
    chen.sees(".webhooks td", "连续失败 7 次").await;
    chen.sees(".lost td", "返回状态码 500").await;
    receiver.refuse(&[]);
    chen.click(".lost .again").await;
    chen.sees(".lost", "没有失败的推送").await;
    assert_eq!(deliverer.deliver(now()).await.unwrap().done, 1);
    assert_eq!(receiver.received()[1].body["event"], "opened");
    assert_eq!(chen.read("document.querySelectorAll('.notice.alarm').length").await, 0);
    chen.close().await;
    service.service.state.close().await;
}

/// A picture of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

#[tokio::test(flavor = "multi_thread")]
async fn files_are_shown_and_sent_and_a_partner_works_on_what_is_shared() {
    let Some(driver) = Driver::start() else { return };
    let place = Place::sqlite();
    let service = Listening::start(place.config()).await;
    let pixel = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, PIXEL).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (picture, letter) = (folder.path().join("杯子.png"), folder.path().join("退货单.txt"));
    std::fs::write(&picture, &pixel).unwrap();
    std::fs::write(&letter, "请在七天内寄回").unwrap();
    let organisation = json!({ "name": "安达快递", "team": "快递核查" });
    let organisation = string(&service.send("POST", "/v1/organisations", organisation).await["organisation_id"]);
    let account = json!({ "login": "zhang", "name": "老张", "role": "agent", "organisation": organisation, "password": PASSWORD });
    service.send("POST", "/v1/users", account).await;

    // The customer sends a picture, and asks for a person.
    let customer = driver.browser(&service, false).await;
    customer.go("/").await;
    customer.write("#key", &(service.key.clone() + ENTER)).await;
    customer.until("document.querySelector('#key-form').hidden").await;
    customer.write("#text", &("我要转人工".to_owned() + ENTER)).await;
    customer.sees("#banner", "已转人工").await;
    customer.client.find("#file").await.send_keys(picture.to_str().unwrap()).await;
    customer.until("document.querySelector('.turn.user .file img')?.naturalWidth === 1").await;
    let session = string(&customer.read("sessionStorage.getItem('yingda-session')").await);
    let ticket = string(&service.get(&format!("/v1/sessions/{session}")).await["ticket"]["ticket_id"]);

    // 小王 sees it, answers with a file, and hands the ticket to the courier.
    let wang = driver.browser(&service, false).await;
    wang.go(&format!("/console#/ticket/{ticket}")).await;
    wang.log_in("xiaowang").await;
    wang.until("document.querySelector('.turn.user .files img')?.naturalWidth === 1").await;
    wang.click("[data-action=take]").await;
    wang.find("[data-action=attach]").await;
    wang.client.find("form.reply input[type=file]").await.send_keys(letter.to_str().unwrap()).await;
    wang.sees(".turn.agent .files a", "退货单.txt").await;
    customer.sees(".turn.agent .file", "退货单.txt").await;
    wang.click("[data-action=transfer]").await;
    wang.until("document.querySelector('dialog select[name=sees]')?.parentElement.hidden === true").await;
    wang.write("dialog input[name=team]", "快递核查").await;
    wang.until("!document.querySelector('dialog select[name=sees]').parentElement.hidden").await;
    wang.write("dialog textarea[name=reason]", "请核查").await;
    wang.click("dialog[open] button[type=submit]").await;
    wang.panel("timeline").await;
    wang.sees(".timeline [data-kind=transferred]", "可见：从现在起的对话").await;
    wang.panel("details").await;
    wang.sees("[data-share]", "安达快递").await;

    // The courier's own find the ticket and what is said from now on, and no place but the queue.
    customer.write("#text", &("快递员没有来过".to_owned() + ENTER)).await;
    let zhang = driver.browser(&service, false).await;
    zhang.go("/console#/queue/waiting").await;
    zhang.log_in("zhang").await;
    zhang.sees("#places", "工单").await;
    assert_eq!(zhang.read("document.querySelectorAll('#places a').length").await, 2);
    zhang.click(&format!("a.ticket[data-id='{ticket}']")).await;
    zhang.sees(".turn.user .bubble", "快递员没有来过").await;
    assert_eq!(zhang.read("document.querySelectorAll('.turn').length").await, 1, "nothing from before");
    zhang.click("[data-action=take]").await;
    zhang.write("form.reply textarea", "明天上午补送").await;
    zhang.write("form.reply textarea", &(CONTROL.to_owned() + ENTER)).await;
    customer.sees(".turn.agent .bubble", "明天上午补送").await;
    zhang.panel("details").await;
    zhang.sees("#panel-details", "更正与标签").await;
    let shown = string(&zhang.read("document.querySelector('#panel-details').textContent").await);
    assert!(!shown.contains("渠道") && !shown.contains("外部共享"), "{shown}");
    assert_eq!(zhang.read("document.querySelectorAll('.notice.alarm').length").await, 0);

    // A supervisor takes it back, and it is gone.
    service.send("DELETE", &format!("/v1/tickets/{ticket}/shares/{organisation}"), json!({})).await;
    zhang.sees("#page", "没有这张工单").await;

    let chen = driver.browser(&service, false).await;
    chen.go("/console#/users").await;
    chen.log_in("chen").await;
    chen.sees(".pill.outside", "安达快递").await;
    chen.write("input[name=organisation-name]", "杯子工厂").await;
    chen.write("input[name=organisation-team]", &("工厂".to_owned() + ENTER)).await;
    chen.sees("[aria-label=外部机构]", "杯子工厂").await;
    for browser in [customer, wang, zhang, chen] {
        browser.close().await;
    }
    service.service.state.close().await;
}
