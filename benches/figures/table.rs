//! The table, and the arithmetic of rounds.

use std::fmt;

/// What a ratio should be.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    must: f64,
    stretch: f64,
    is_least: bool,
}

impl Goal {
    /// None was set.
    pub const NONE: Self = Self {
        must: f64::NAN,
        stretch: f64::NAN,
        is_least: true,
    };

    /// No less than this.
    pub const fn least(must: f64, stretch: f64) -> Self {
        Self {
            must,
            stretch,
            is_least: true,
        }
    }

    /// No more than this.
    pub const fn most(must: f64, stretch: f64) -> Self {
        Self {
            must,
            stretch,
            is_least: false,
        }
    }

    fn holds(self, bound: f64, ratio: f64) -> bool {
        if self.is_least {
            ratio >= bound
        } else {
            ratio <= bound
        }
    }

    fn verdict(self, ratio: Option<f64>) -> &'static str {
        match ratio {
            _ if self.must.is_nan() => "",
            None => "",
            Some(ratio) if self.holds(self.stretch, ratio) => "stretch",
            Some(ratio) if self.holds(self.must, ratio) => "must",
            Some(_) => "**missed**",
        }
    }

    fn bound(self, bound: f64) -> String {
        match bound.is_nan() {
            true => "–".to_owned(),
            false => format!("{} {bound}", if self.is_least { "≥" } else { "≤" }),
        }
    }
}

/// One figure.
pub struct Row {
    name: String,
    measured: String,
    limit: String,
    ratio: Option<(f64, f64, f64)>,
    goal: Goal,
}

impl Row {
    /// A ratio: wagate and its limit in each round, as they are told in this unit.
    pub fn ratio(
        name: impl Into<String>,
        rounds: &[(f64, f64)],
        unit: fn(f64) -> String,
        goal: Goal,
    ) -> Self {
        let told = |pick: fn(&(f64, f64)) -> f64| match rounds.is_empty() {
            true => "–".to_owned(),
            false => unit(median(rounds.iter().map(pick).collect())),
        };
        let mut ratios: Vec<f64> = rounds
            .iter()
            .map(|(wagate, limit)| wagate / limit)
            .filter(|ratio| ratio.is_finite())
            .collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = match (ratios.first(), ratios.last()) {
            (Some(least), Some(most)) => Some((*least, median(ratios.clone()), *most)),
            _ => None,
        };
        Self {
            name: name.into(),
            measured: told(|round| round.0),
            limit: told(|round| round.1),
            ratio,
            goal,
        }
    }

    /// A figure without a limit beside it.
    pub fn plain(name: impl Into<String>, measured: impl Into<String>, goal: Goal) -> Self {
        Self {
            name: name.into(),
            measured: measured.into(),
            limit: "–".to_owned(),
            ratio: None,
            goal,
        }
    }
}

/// All figures of a run.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    /// One more, told at once as well: a run is long.
    pub fn push(&mut self, row: Row) {
        eprintln!("  {}", line(&row));
        self.rows.push(row);
    }

    /// Something to know about the figures.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "| figure | wagate | limit | ratio: median (least–most) | must | stretch | |"
        )?;
        writeln!(out, "| --- | --- | --- | --- | --- | --- | --- |")?;
        for row in &self.rows {
            writeln!(out, "{}", line(row))?;
        }
        for note in &self.notes {
            writeln!(out, "\n{note}")?;
        }
        Ok(())
    }
}

fn line(row: &Row) -> String {
    let ratio = row.ratio.map_or("–".to_owned(), |(least, median, most)| {
        format!("{median:.2} ({least:.2}–{most:.2})")
    });
    format!(
        "| {} | {} | {} | {ratio} | {} | {} | {} |",
        row.name,
        row.measured,
        row.limit,
        row.goal.bound(row.goal.must),
        row.goal.bound(row.goal.stretch),
        row.goal.verdict(row.ratio.map(|ratio| ratio.1)),
    )
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value below which this part of all lies.
pub fn percentile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part) as usize;
    sorted
        .get(at.min(sorted.len().saturating_sub(1)))
        .copied()
        .unwrap_or(f64::NAN)
}

/// Events, messages or rows per second.
pub fn per_second(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k/s", value / 1e3),
        value if value >= 1e3 => format!("{:.1} k/s", value / 1e3),
        value => format!("{value:.0} /s"),
    }
}

/// Microseconds.
pub fn micros(value: f64) -> String {
    match value {
        value if value >= 1e4 => format!("{:.1} ms", value / 1e3),
        value if value >= 10.0 => format!("{value:.0} µs"),
        value => format!("{value:.2} µs"),
    }
}

/// Milliseconds.
pub fn millis(value: f64) -> String {
    match value {
        value if value >= 1e3 => format!("{:.2} s", value / 1e3),
        value => format!("{value:.2} ms"),
    }
}

/// Kibibytes.
pub fn kibibytes(value: f64) -> String {
    format!("{value:.0} KiB")
}
