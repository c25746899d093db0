//! A job on one screen of text.
//!
//! Comes in: a [`View`], and the size of the screen. Goes out: the screen. What must hold: it fits on 80 columns and 24 lines, and uses more where there are more; of ranks
//! that find no place of their own, several share one, which shows the worst of them; whatever journals hold is cut and never controls the
//! terminal; colours say nothing that a letter does not.

use super::report::PARTS;
use super::view::View;
use super::{AlertNow, State};
use crate::human;
use piton::journal::WallTime;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};
use std::time::Duration;

/// Without a sign of life for longer than this a rank counts as silent, seconds.
const SILENT: f64 = 1.5;
/// So many steps behind is far.
const FAR: u64 = 10;

/// How a rank is shown, the better ones first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Shade {
    Left,
    Well,
    Starting,
    Behind,
    Far,
    Bad,
}

impl Shade {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Well, "well"),
        (Self::Behind, "behind"),
        (Self::Far, "far behind"),
        (Self::Bad, "silent, stuck, ended"),
        (Self::Starting, "starting"),
        (Self::Left, "left"),
    ];

    fn letter(self) -> &'static str {
        match self {
            Self::Left => "·",
            Self::Well => "■",
            Self::Starting => "○",
            Self::Behind => "▒",
            Self::Far => "░",
            Self::Bad => "X",
        }
    }

    fn colour(self) -> Color {
        match self {
            Self::Left => Color::DarkGray,
            Self::Well => Color::Green,
            Self::Starting => Color::Cyan,
            Self::Behind => Color::Yellow,
            Self::Far => Color::Magenta,
            Self::Bad => Color::Red,
        }
    }
}

/// What whoever looks at it has chosen.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// The place of a rank among those shown.
    pub rank: Option<usize>,
    /// Whether colours may be used.
    pub coloured: bool,
    /// Why what is shown is old.
    pub problem: Option<String>,
}

impl Choice {
    /// Moves to another rank of `count`, `by` places on; the first where none was chosen.
    pub fn go(&mut self, by: isize, count: usize) {
        self.rank = match (self.rank, count.checked_sub(1)) {
            (_, None) => None,
            (None, _) => Some(0),
            (Some(at), Some(last)) => Some(at.saturating_add_signed(by).min(last)),
        };
    }

    fn style(&self, colour: Color) -> Style {
        if self.coloured { Style::new().fg(colour) } else { Style::new() }
    }
}

/// Text that cannot control a terminal, on one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn ago(at: WallTime, now: WallTime) -> String {
    human::span(at.until(now))
}

fn seconds(seconds: f64) -> String {
    human::short(seconds.max(0.0))
}

/// Draws it.
pub fn draw(frame: &mut Frame<'_>, view: &View, choice: &Choice) {
    let area = frame.area();
    let alerts = u16::try_from(view.now.alerts.len().clamp(1, 5)).unwrap_or(5) + 2;
    let details: u16 = if area.height >= 40 { 14 } else { 7 };
    let lines = [
        Constraint::Length(3),
        Constraint::Min(4),
        Constraint::Length(details),
        Constraint::Length(alerts),
        Constraint::Length(1),
    ];
    let [head, ranks, middle, wrong, foot] = Layout::vertical(lines).areas(area);
    frame.render_widget(Paragraph::new(title(view, choice, usize::from(head.width))), head);
    draw_ranks(frame, ranks, view, choice);
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(middle);
    draw_checkpoints(frame, left, view);
    draw_nodes(frame, right, view, choice);
    draw_alerts(frame, wrong, view, choice);
    let words = match &choice.problem {
        Some(problem) => Span::styled(format!("not up to date: {}", plain(problem)), choice.style(Color::Red)),
        None => Span::raw("q quit   arrows choose a rank   r look again"),
    };
    frame.render_widget(Paragraph::new(Line::from(words)), foot);
}

fn title<'a>(view: &'a View, choice: &Choice, width: usize) -> Text<'a> {
    let now = &view.now;
    let colour = match now.state {
        State::Running | State::Finished => Color::Green,
        State::Halted | State::Restarting => Color::Yellow,
        State::Failed | State::Gone => Color::Red,
    };
    let mut first = vec![
        Span::styled(plain(&now.job), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(", attempt {}: ", now.epoch)),
        Span::styled(now.state.words(), choice.style(colour)),
    ];
    if let Some(world) = now.world {
        first.push(Span::raw(format!(", {}", human::count(world as usize, "rank"))));
    }
    if let Some(step) = now.step {
        first.push(Span::raw(format!(", step {step}")));
    }
    if let Some(started) = now.started {
        first.push(Span::raw(format!(", for {}", ago(started, now.at))));
    }
    let mut second = Vec::new();
    match &view.mtbf {
        Some(mtbf) => {
            second.push(human::count(view.failures, "failure"));
            second.extend(mtbf.seconds.map(|mean| format!("one every {}", seconds(mean))));
        }
        None => second.push("no journal tells of failures".to_owned()),
    }
    if let Some(newest) = &now.checkpoint {
        second.push(format!("checkpoint of step {} {} ago", newest.step, seconds(newest.age_seconds)));
    }
    Text::from(vec![Line::from(first), Line::from(second.join(", ")), time_bar(view, choice, width)])
}

/// Where the time went, as a bar of letters and the shares of the largest parts.
fn time_bar<'a>(view: &View, choice: &Choice, width: usize) -> Line<'a> {
    let parts = &view.parts;
    if parts.all <= 0.0 {
        return Line::from("");
    }
    let colours =
        [Color::Green, Color::Yellow, Color::LightYellow, Color::Red, Color::Magenta, Color::Blue, Color::DarkGray];
    let cells = (width / 3).clamp(10, 60);
    let (mut spans, mut filled, mut until) = (Vec::new(), 0, 0.0);
    for ((name, part), colour) in parts.named().into_iter().zip(colours) {
        until += parts.share(part);
        let end = ((until * cells as f64).round() as usize).min(cells);
        let letter = name.get(..1).unwrap_or("?");
        spans.push(Span::styled(letter.repeat(end.saturating_sub(filled)), choice.style(colour)));
        filled = filled.max(end);
    }
    let mut named: Vec<(&str, f64)> = parts.named().to_vec();
    named.sort_by(|a, b| b.1.total_cmp(&a.1));
    let most = if width >= 120 { PARTS.len() } else { 3 };
    let words: Vec<String> =
        named.iter().take(most).map(|(name, part)| format!("{name} {:.1} %", 100.0 * parts.share(*part))).collect();
    spans.push(Span::raw(format!(" {}", words.join(", "))));
    Line::from(spans)
}

fn shades(view: &View) -> Vec<Shade> {
    let heat = &view.heat;
    let blamed: Vec<u32> = view
        .now
        .alerts
        .iter()
        .filter(|alert| alert.severity == "critical")
        .filter_map(|alert| alert.labels.get("rank")?.parse().ok())
        .collect();
    heat.presence
        .chars()
        .enumerate()
        .map(|(place, letter)| {
            let silent = heat.silent.get(place).is_some_and(|silent| *silent > SILENT);
            match (letter, heat.behind.get(place).copied().unwrap_or(0)) {
                ('l', _) => Shade::Left,
                ('S' | 'e', _) => Shade::Bad,
                _ if heat.rank(place).is_some_and(|rank| blamed.contains(&rank)) => Shade::Bad,
                ('s', _) => Shade::Starting,
                _ if silent => Shade::Bad,
                (_, 0 | 1) => Shade::Well,
                (_, behind) if behind <= FAR => Shade::Behind,
                _ => Shade::Far,
            }
        })
        .collect()
}

fn draw_ranks(frame: &mut Frame<'_>, area: Rect, view: &View, choice: &Choice) {
    let all = shades(view);
    // The line above, the legend and the chosen one have theirs.
    let (width, height) = (usize::from(area.width).max(1), usize::from(area.height).saturating_sub(3).max(1));
    // So many share a cell that all find room.
    let each = all.len().div_ceil(width * height).max(1);
    let mut title = "Ranks".to_owned();
    if let Some(world) = view.now.world.filter(|world| (*world as usize) > all.len()) {
        title.push_str(&format!(", {} of {world} seen from here", all.len()));
    }
    if each > 1 {
        title.push_str(&format!(", {each} a cell, which shows the worst of them"));
    }
    let block = Block::new().borders(Borders::TOP).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut lines: Vec<Line<'_>> = Vec::new();
    let cells: Vec<Shade> = all.chunks(each).map(|group| group.iter().copied().max().unwrap_or(Shade::Well)).collect();
    for (line, row) in cells.chunks(width).enumerate() {
        let spans = row.iter().enumerate().map(|(column, shade)| {
            let is_chosen = choice.rank.is_some_and(|rank| rank / each == line * width + column);
            let style = choice.style(shade.colour());
            Span::styled(shade.letter(), if is_chosen { style.add_modifier(Modifier::REVERSED) } else { style })
        });
        lines.push(Line::from(spans.collect::<Vec<_>>()));
    }
    if all.is_empty() {
        lines.push(Line::from(
            "none is seen from here: they run on other nodes, or not at all (`--url` asks the supervisor)",
        ));
    }
    let mut legend: Vec<Span<'_>> = Vec::new();
    for (shade, words) in Shade::ALL {
        legend.push(Span::styled(shade.letter(), choice.style(shade.colour())));
        legend.push(Span::raw(format!(" {words}  ")));
    }
    lines.push(Line::from(legend));
    lines.push(Line::from(chosen(view, choice)));
    frame.render_widget(Paragraph::new(lines), inner);
}

fn chosen(view: &View, choice: &Choice) -> String {
    let heat = &view.heat;
    let Some(place) = choice.rank.filter(|place| *place < heat.presence.len()) else { return String::new() };
    let words = match heat.presence.chars().nth(place) {
        Some('c') => "computing",
        Some('s') => "starting",
        Some('S') => "stuck",
        Some('e') => "ended",
        _ => "left",
    };
    let node = heat.node.get(place).and_then(|node| heat.nodes.get(*node as usize));
    let on = node.map_or_else(String::new, |node| format!(" on {}", plain(node)));
    let behind = heat.behind.get(place).copied().unwrap_or(0);
    let silent = heat.silent.get(place).copied().unwrap_or(0.0);
    format!(
        "rank {}{on}: {words}, step {}, {behind} behind, last beat {} ago",
        heat.rank(place).unwrap_or_default(),
        heat.furthest.saturating_sub(behind),
        seconds(silent)
    )
}

fn draw_checkpoints(frame: &mut Frame<'_>, area: Rect, view: &View) {
    let block = Block::new().borders(Borders::TOP).title("Checkpoints");
    let room = usize::from(area.height.saturating_sub(2));
    let names = ["id", "step", "age", "blocked", "durable", "size"];
    let widths = [5, 8, 7, 8, 8, 9].map(Constraint::Length);
    // The last one only where there is room for it.
    let columns = if area.width < 50 { names.len() - 1 } else { names.len() };
    let rows = view.taken.iter().rev().take(room).map(|taken| {
        let cells = [
            taken.id.to_string(),
            taken.step.to_string(),
            ago(taken.at, view.now.at),
            seconds(taken.blocked),
            taken.latency.map_or_else(|| "–".to_owned(), seconds),
            taken.bytes.map_or_else(|| "–".to_owned(), human::size),
        ];
        Row::new(cells.into_iter().take(columns))
    });
    let head = Row::new(names.into_iter().take(columns)).style(Modifier::BOLD);
    frame.render_widget(Table::new(rows, widths.into_iter().take(columns)).header(head).block(block), area);
}

fn draw_nodes(frame: &mut Frame<'_>, area: Rect, view: &View, choice: &Choice) {
    use super::NodeState;
    let block = Block::new().borders(Borders::TOP).title("Nodes");
    let room = usize::from(area.height.saturating_sub(2));
    let past = |name: &str| view.nodes.iter().find(|node| node.name == name);
    let mut rows: Vec<(bool, Row<'_>)> = Vec::new();
    for node in &view.now.nodes {
        let is_bad = matches!(node.state, NodeState::Lost | NodeState::Silent);
        let style = if is_bad { choice.style(Color::Red) } else { Style::new() };
        rows.push((
            is_bad,
            Row::new([
                Cell::from(plain(&node.name)),
                Cell::from(node.state.name()).style(style),
                Cell::from(node.ranks.to_string()),
                Cell::from(past(&node.name).map_or(0, |past| past.failures).to_string()),
                Cell::from(plain(&past(&node.name).map_or_else(String::new, |past| past.reasons.join(", ")))),
            ]),
        ));
    }
    if view.now.nodes.is_empty() {
        rows.extend(view.nodes.iter().map(|node| {
            let reasons = plain(&node.reasons.join(", "));
            let failures = node.failures.to_string();
            (false, Row::new([plain(&node.name), "–".to_owned(), "–".to_owned(), failures, reasons]))
        }));
    }
    rows.sort_by_key(|(is_bad, _)| !is_bad);
    let widths =
        [Constraint::Max(16), Constraint::Max(10), Constraint::Max(6), Constraint::Max(9), Constraint::Fill(1)];
    let head = Row::new(["node", "state", "ranks", "failures", "why"]).style(Modifier::BOLD);
    let rows = rows.into_iter().take(room).map(|(_, row)| row);
    frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
}

fn draw_alerts(frame: &mut Frame<'_>, area: Rect, view: &View, choice: &Choice) {
    let block = Block::new().borders(Borders::TOP).title("What is wrong");
    let room = usize::from(area.height.saturating_sub(1));
    let mut alerts: Vec<&AlertNow> = view.now.alerts.iter().collect();
    let weight = |alert: &AlertNow| ["critical", "warning", "info"].iter().position(|name| *name == alert.severity);
    alerts.sort_by_key(|alert| weight(alert).unwrap_or(9));
    let hidden = alerts.len().saturating_sub(room);
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    let mut lines: Vec<Line<'_>> = alerts
        .iter()
        .take(shown)
        .map(|alert| {
            let colour = if alert.severity == "critical" { Color::Red } else { Color::Yellow };
            Line::from(vec![
                Span::styled(format!("{} {}", alert.severity, plain(&alert.rule)), choice.style(colour)),
                Span::raw(format!(" {} ({} ago)", plain(&alert.summary), ago(alert.since, view.now.at))),
            ])
        })
        .collect();
    if alerts.is_empty() {
        lines.push(Line::styled("nothing is known to be wrong", choice.style(Color::Green)));
    }
    if hidden > 0 {
        lines.push(Line::from(format!("and {} more", alerts.len() - shown)));
    }
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// How long to wait between two looks.
pub const EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::tests::{running, two_failures};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn screen(width: u16, height: u16, view: &View, choice: &Choice) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a screen");
        terminal.draw(|frame| draw(frame, view, choice)).expect("it is drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
        (0..height).map(line).collect()
    }

    fn view(ranks: u32) -> View {
        View::of(&running(ranks), Some(&two_failures().story()))
    }

    #[test]
    fn it_fits_on_a_small_screen_and_uses_a_large_one() {
        for (width, height) in [(80, 24), (200, 60), (40, 10), (10, 3), (1, 1)] {
            for ranks in [0, 4, 4096] {
                let lines = screen(width, height, &view(ranks), &Choice { rank: Some(2), ..Choice::default() });
                if width < 80 {
                    continue;
                }
                let text = lines.join("\n");
                for words in [
                    "walk, attempt 3: running",
                    "2 failures",
                    "checkpoint of step 38",
                    "n4",
                    "lost",
                    "RankStopped",
                    "q quit",
                ] {
                    assert!(text.contains(words), "{words}, {width}×{height}, {ranks} ranks:\n{text}");
                }
                assert!(ranks == 0 || text.contains("rank 2 on n3: stuck"), "{text}");
                assert!(!text.contains('\u{1b}'));
            }
        }
    }

    #[test]
    fn each_rank_has_a_cell_or_shares_one_that_shows_the_worst() {
        let squares = |lines: &[String], letter: char| {
            lines.iter().take(lines.len() - 8).flat_map(|line| line.chars()).filter(|c| *c == letter).count()
        };
        let few = screen(80, 24, &view(4), &Choice::default());
        assert_eq!(few[4].trim_end(), "■■X░", "{few:?}");
        let many = screen(200, 60, &view(4096), &Choice::default());
        assert_eq!(squares(&many, 'X'), 2, "the rank, and the legend's: {many:?}");
        assert!(squares(&many, '■') >= 4090);
        let crowded = screen(80, 24, &view(4096), &Choice::default());
        assert!(crowded.iter().any(|line| line.contains("8 a cell, which shows the worst")), "{crowded:?}");
        assert_eq!(squares(&crowded, 'X'), 2, "{crowded:?}");
    }

    #[test]
    fn a_choice_stays_among_the_ranks() {
        let mut choice = Choice::default();
        choice.go(5, 0);
        assert_eq!(choice.rank, None);
        choice.go(-3, 10);
        assert_eq!(choice.rank, Some(0));
        choice.go(80, 10);
        assert_eq!(choice.rank, Some(9));
        choice.go(-80, 10);
        assert_eq!(choice.rank, Some(0));
    }
}
