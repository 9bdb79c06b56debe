//! Pictures, keys, and rates.

use std::{fmt::Write as _, time::Instant};

use proptest::prelude::*;
use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
};

use super::{
    model::{Key, Order, Reading, arrange, rows},
    state::{Motion, View},
    *,
};
use crate::{
    cli::top::model::Turned,
    model::{
        incident::{
            id::IncidentId,
            moment::Moment,
            record::{ListenerName, State as IncidentState, Summary},
            verdict::Cause,
        },
        owner::Owner,
    },
    serve::api::{ListenerDto, OverflowsDto, QueueDto},
};

fn listener(port: u16, process: &str, length: u64, enqueued: u64, overflows: u64) -> ListenerDto {
    let text = format!(
        r#"{{"netns":"host","address":"0.0.0.0","port":{port},"sockets":1,
            "accept_queue":{{"length":{length},"limit":128}},
            "syn_queue":{{"length":0,"limit":128}}}}"#
    );
    let dto: ListenerDto = serde_json::from_str(&text).unwrap();
    ListenerDto {
        owners: vec![Owner { process: Some(process.to_owned()), pid: Some(7), ..Owner::default() }],
        accept_queue: QueueDto { length, limit: 128 },
        overflows: Some(OverflowsDto { syn: Some(overflows), ack: Some(0), cookie: None }),
        listen_drops: Some(overflows),
        enqueued: Some(enqueued),
        ..dto
    }
}

fn incident(port: &str) -> Summary {
    let listener = ListenerName {
        netns: "host".to_owned(),
        address: "0.0.0.0".to_owned(),
        port: port.to_owned(),
    };
    Summary {
        id: IncidentId::new(Moment(1_795_000_000_000), "x"),
        state: IncidentState::Open,
        listener,
        process: Some("nginx".to_owned()),
        opened: Moment(1_795_000_000_000),
        last: Moment(1_795_000_012_000),
        cause: Cause::ApplicationStalled,
        confidence: None,
        overflows: 361,
        drops: None,
    }
}

fn reading(at: Instant, second: u64) -> Reading {
    let listeners = vec![
        listener(22, "sshd", 0, 3, 0),
        listener(80, "nginx", 129, 100 * second, 60 * second),
        listener(443, "a\u{1b}[31mb数数", 100, 2 * second, 0),
    ];
    let at = at + Duration::from_secs(second);
    Reading { at, listeners, incidents: Ok(vec![incident("80")]) }
}

fn playing() -> State {
    let start = Instant::now();
    let mut state = State::new();
    for second in 1..=5 {
        state.read(Ok(reading(start, second)));
    }
    state
}

fn press(state: &mut State, code: KeyCode) -> Option<Wish> {
    state.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn picture(state: &mut State, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    render::screen(state, area, &mut buffer);
    let mut text = String::new();
    for y in 0..height {
        let line: String = (0..width).map(|x| buffer[(x, y)].symbol()).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[test]
fn the_pictures_are_the_golden_ones() {
    let mut state = playing();
    let mut text = String::new();
    for (width, height) in [(140, 14), (80, 14), (50, 8)] {
        writeln!(text, "{width} x {height}\n{}", picture(&mut state, width, height)).unwrap();
    }
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Home);
    press(&mut state, KeyCode::Enter);
    writeln!(text, "a listener\n{}", picture(&mut state, 80, 18)).unwrap();
    press(&mut state, KeyCode::Char('?'));
    write!(text, "help\n{}", picture(&mut state, 90, 22)).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/top.txt");
    let expected = std::fs::read_to_string(golden).unwrap_or_default();
    if text != expected {
        let path = std::env::temp_dir().join("top.txt");
        std::fs::write(&path, &text).unwrap();
        panic!("not as {golden}: {}", path.display());
    }
}

#[test]
fn rates_are_of_the_time_between_two_readings_and_never_of_another_daemon() {
    let start = Instant::now();
    let (first, third) = (reading(start, 1), reading(start, 3));
    let rate = |before: Option<&Reading>, now: &Reading| {
        let rows = rows(before, now);
        let row = rows.into_iter().find(|row| row.key.port == Some(80)).unwrap();
        (row.rates.connections, row.rates.overflows)
    };
    assert_eq!(rate(Some(&first), &third), (Some(100.0), Some(60.0)));
    assert_eq!(rate(None, &third), (None, None));
    // Counters that went back.
    assert_eq!(rate(Some(&third), &Reading { at: third.at, ..first.clone() }), (None, None));
    // The same moment.
    assert_eq!(rate(Some(&third), &third), (None, None));
    // After an error the next one is not compared.
    let mut state = State::new();
    state.read(Ok(first));
    state.read(Err("no daemon".to_owned()));
    assert!(picture(&mut state, 80, 10).contains("no daemon"));
    state.read(Ok(third));
    assert!(state.trouble.is_none());
    assert!(state.rows.iter().all(|row| row.rates.connections.is_none()));
}

#[test]
fn trouble_comes_first_and_the_choice_follows_its_listener() {
    let mut state = playing();
    let ports = |state: &State| state.rows.iter().map(|row| row.key.port).collect::<Vec<_>>();
    assert_eq!(ports(&state), [Some(80), Some(443), Some(22)]);
    press(&mut state, KeyCode::Down);
    assert_eq!(state.place(), Some(1));
    press(&mut state, KeyCode::Char('r'));
    assert_eq!(ports(&state), [Some(22), Some(443), Some(80)]);
    assert_eq!(state.chosen.as_ref().and_then(|key| key.port), Some(443));
    press(&mut state, KeyCode::Char('/'));
    for c in "ssh".chars() {
        press(&mut state, KeyCode::Char(c));
    }
    assert_eq!((ports(&state), state.chosen.clone()), (vec![Some(22)], None));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.rows.len(), 3);
}

#[test]
fn an_incident_is_opened_from_its_listener_and_from_the_panel() {
    let mut state = playing();
    let id = incident("80").id.to_string();
    assert_eq!(press(&mut state, KeyCode::Char('i')), Some(Wish::Incident(id.clone())));
    press(&mut state, KeyCode::Tab);
    assert_eq!(press(&mut state, KeyCode::Enter), Some(Wish::Incident(id.clone())));
    state.show(&id, "one\ntwo\nthree\n".to_owned());
    press(&mut state, KeyCode::Down);
    let text = picture(&mut state, 40, 6);
    assert!(text.contains("two") && !text.contains("one"), "{text}");
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.view, View::Incidents);
    // Who has gone on meanwhile is not called back.
    press(&mut state, KeyCode::Enter);
    press(&mut state, KeyCode::Esc);
    state.show(&id, "late".to_owned());
    assert_eq!(state.view, View::Listeners);
    assert_eq!(press(&mut state, KeyCode::Char('q')), Some(Wish::End));
}

#[test]
fn a_held_picture_stands_still() {
    let start = Instant::now();
    let mut state = State::new();
    state.read(Ok(reading(start, 1)));
    press(&mut state, KeyCode::Char(' '));
    assert_eq!(state.motion, Motion::Held);
    let before = picture(&mut state, 120, 12);
    state.read(Ok(reading(start, 9)));
    assert_eq!(picture(&mut state, 120, 12), before);
    press(&mut state, KeyCode::Char(' '));
    state.read(Ok(reading(start, 10)));
    assert_ne!(picture(&mut state, 120, 12), before);
}

#[test]
fn every_order_is_an_order() {
    let start = Instant::now();
    let (first, second) = (reading(start, 1), reading(start, 2));
    let mut order = Order::Trouble;
    for _ in 0..5 {
        let rows = rows(Some(&first), &second);
        assert_eq!(arrange(rows, order, Turned::Forwards, "").len(), 3);
        order = order.next();
    }
    assert_eq!(order, Order::Trouble);
    let key = Key { netns: "n".to_owned(), address: "::1".to_owned(), port: Some(1) };
    assert_eq!(key.place(), "[::1]:1");
}

#[derive(Clone, Debug)]
enum Step {
    Press(KeyCode),
    Read(u64),
    Fail,
    Show,
    Draw(u16, u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![
        prop::sample::select("jkgGsriq?/ abz数\u{1b}".chars().collect::<Vec<_>>())
            .prop_map(KeyCode::Char),
        prop::sample::select(vec![
            KeyCode::Enter,
            KeyCode::Esc,
            KeyCode::Tab,
            KeyCode::Backspace,
            KeyCode::Up,
            KeyCode::Down,
            KeyCode::PageUp,
            KeyCode::PageDown,
            KeyCode::Home,
            KeyCode::End,
            KeyCode::F(1),
        ]),
    ];
    let step = prop_oneof![
        6 => key.prop_map(Step::Press),
        2 => (0..9_u64).prop_map(Step::Read),
        1 => Just(Step::Fail),
        1 => Just(Step::Show),
        3 => (0..200_u16, 0..60_u16).prop_map(|(width, height)| Step::Draw(width, height)),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever is pressed, read and resized, in whatever order.
    #[test]
    fn nothing_panics(steps in steps()) {
        let start = Instant::now();
        let mut state = State::new();
        for step in steps {
            match step {
                Step::Press(code) => drop(press(&mut state, code)),
                Step::Read(second) => {
                    let mut reading = reading(start, second);
                    reading.listeners.truncate(usize::try_from(second % 4).unwrap());
                    state.read(Ok(reading));
                }
                Step::Fail => state.read(Err("gone".to_owned())),
                Step::Show => {
                    state.show(&incident("80").id.to_string(), "a\nb\n".repeat(50));
                }
                Step::Draw(width, height) => drop(picture(&mut state, width, height)),
            }
        }
    }
}
