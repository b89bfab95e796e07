//! scratch
#![allow(clippy::print_stdout, clippy::unwrap_used)]
use std::time::Instant;
use yingda_datasets::*;
fn main() {
    for (f, m) in [
        ("/work/shared/data/faq-securities/replies.jsonl", vec!["answer=question"]),
        ("/work/shared/data/faq-gamedev/replies.jsonl", vec![]),
    ] {
        let k = load_knowledge(&[f.into()], &ColumnMap::for_knowledge(&m).unwrap()).unwrap();
        println!("{} {}", k.entries.len(), format_problems(&check_knowledge(&k, &str::to_owned), 2));
    }
    let texts: Vec<String> = (0..200_000u64)
        .map(|i| {
            format!("你好请问订单号{:09}什么时候发货呢请帮我查一下谢谢", i.wrapping_mul(2654435761) % 1_000_000_000)
        })
        .collect();
    let views: Vec<&str> = texts.iter().map(String::as_str).collect();
    let t = Instant::now();
    let c = NearDuplicates::default().clusters(&views);
    println!("{} clusters {:?}", c.iter().collect::<std::collections::HashSet<_>>().len(), t.elapsed());
    let t = Instant::now();
    let c = NearDuplicates { threshold: 0.5, min_chars: 8 }.clusters(&views);
    println!("{} clusters {:?}", c.iter().collect::<std::collections::HashSet<_>>().len(), t.elapsed());
    let mut csv = String::from("session_id,turn,role,text,intent\n");
    for i in 0..1_000_000 {
        csv.push_str(&format!("s{},{},user,\"你好,请问订单{}什么时候发货呢\",物流\n", i / 10, i % 10, i));
    }
    std::fs::write("/tmp/big.csv", &csv).unwrap();
    let t = Instant::now();
    let chats = load(&["/tmp/big.csv".into()], &ColumnMap::default()).unwrap();
    println!("csv {} MB {} rows {:?}", csv.len() / 1_000_000, chats.len(), t.elapsed());
    let t = Instant::now();
    println!("{} {:?}", check(&chats, &CheckOptions::default(), &str::to_owned).unwrap().problems.len(), t.elapsed());
    let t = Instant::now();
    println!("{:?} {:?}", split(&chats, &SplitOptions::default(), &str::to_owned).unwrap().report, t.elapsed());
}
