//! The numbers of a run, as they are printed.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    gateway::{Death, Plan},
    ledger::Tries,
    watch::PROPERTIES,
};

/// What was done and seen so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub time: Duration,
    /// Kills at any moment.
    pub kills: u64,
    /// Crashes by point, and how often the point was not reached in time.
    pub points: BTreeMap<&'static str, (u64, u64)>,
    /// From start to serving.
    pub starts: Vec<Duration>,
    pub inbound: u64,
    pub acked: u64,
    pub handed_again: u64,
    pub retries: u64,
    pub unreadable: u64,
    pub outbound: u64,
    pub receipts: u64,
    /// Messages that a reader asked for again and never got.
    pub unanswered: u64,
    pub tries: Tries,
    pub events: u64,
    pub subscribers: u64,
    pub streams: u64,
    pub delivered: u64,
    pub broken: BTreeMap<&'static str, u64>,
    pub complaints: u64,
}

impl Tally {
    pub fn note(&mut self, plan: &Plan, death: Death) {
        match plan {
            Plan::AtPoint { name, .. } => {
                let (reached, missed) = self.points.entry(name).or_default();
                match death {
                    Death::AtPoint => *reached += 1,
                    _ => *missed += 1,
                }
            }
            _ => self.kills += 1,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crashes: u64 = self.points.values().map(|(reached, _)| reached).sum();
        let missed: u64 = self.points.values().map(|(_, missed)| missed).sum();
        writeln!(
            out,
            "deaths       {} in {:.0?}: {} by SIGKILL at any moment, {crashes} at crash points, \
             {missed} by SIGKILL short of one",
            self.kills + crashes + missed,
            self.time,
            self.kills,
        )?;
        for (name, (reached, missed)) in &self.points {
            writeln!(out, "  {name:<20} {reached} reached, {missed} missed")?;
        }
        let mut starts = self.starts.clone();
        starts.sort_unstable();
        if let (Some(middle), Some(longest)) = (starts.get(starts.len() / 2), starts.last()) {
            writeln!(
                out,
                "starts       {middle:.0?} to serve in the middle, {longest:.0?} at most"
            )?;
        }
        writeln!(
            out,
            "inbound      {} sent, {} acknowledged by the gateway, {} deliveries repeated, {} asked for \
             again, {} unreadable",
            self.inbound, self.acked, self.handed_again, self.retries, self.unreadable
        )?;
        writeln!(
            out,
            "outbound     {} accepted, {} told as received, {} asked for again in vain; {} calls: {} \
             refused, {} abandoned, {} repeated",
            self.outbound,
            self.receipts,
            self.unanswered,
            self.tries.calls,
            self.tries.refused,
            self.tries.abandoned,
            self.tries.repeated
        )?;
        writeln!(
            out,
            "subscribers  {} with {} streams saw {} events of a log of {}",
            self.subscribers, self.streams, self.delivered, self.events
        )?;
        let properties = PROPERTIES.map(|property| match self.broken.get(property) {
            None => format!("{property} ok"),
            Some(times) => format!("{property} BROKEN {times} times"),
        });
        writeln!(out, "properties   {}", properties.join(", "))?;
        write!(out, "complaints   {}", self.complaints)
    }
}
