//! `wagate instance pair`: shows the phone's owner what to scan or type, until it is settled.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use pbjson_types::Timestamp;
use tokio::time::{self, MissedTickBehavior};

use super::{connection::Connection, failure::Failure, format, output::Output, qr};
use crate::proto::v1::{
    PairInstanceRequest, PairInstanceResponse, instance_service_client::InstanceServiceClient,
    pair_instance_response::Step,
};

const CLEAR_LINE: &str = "\r\u{1b}[K";

/// Arguments of `instance pair`.
#[derive(Debug, Args)]
pub struct Pair {
    /// Name or id.
    instance: String,
    /// Pair by a code typed into the phone with this number, instead of a QR.
    #[arg(
        long,
        default_value = "",
        hide_default_value = true,
        value_name = "NUMBER"
    )]
    phone: String,
}

/// Pairs.
pub async fn run(
    mut client: InstanceServiceClient<Connection>,
    pair: Pair,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = PairInstanceRequest {
        instance: pair.instance,
        phone_number: pair.phone,
    };
    let mut steps = client.pair_instance(request).await?.into_inner();
    let mut screen = Screen::default();
    let mut tick = time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let step = tokio::select! {
            step = steps.message() => step?,
            _ = tick.tick(), if output.terminal && screen.expires.is_some() => {
                screen.count_down(output)?;
                continue;
            }
        };
        let Some(step) = step else {
            return Err(Failure::Outcome(
                "the server ended the pairing without saying how".to_owned(),
            ));
        };
        if screen.take(step, output)? {
            return Ok(());
        }
    }
}

/// What is in the terminal now.
#[derive(Default)]
struct Screen {
    /// When the code that is shown expires.
    expires: Option<SystemTime>,
    /// How many lines the QR takes.
    lines: usize,
}

impl Screen {
    /// Shows a step; true once it is settled well.
    fn take(&mut self, answer: PairInstanceResponse, output: &mut Output) -> Result<bool, Failure> {
        if output.json {
            output.show(&answer, |_| String::new())?;
        }
        match answer.step {
            Some(Step::QrCode(code)) => {
                if !output.json {
                    self.show_qr(&code.text, output)?;
                    self.wait_until(code.expire_time.as_ref(), output)?;
                }
                Ok(false)
            }
            Some(Step::PairingCode(code)) => {
                if !output.json {
                    self.wipe(output)?;
                    output.line(
                        "In WhatsApp: Settings > Linked devices > Link a device > Link with phone number instead, then type",
                    )?;
                    output.line(&format!("\n    {}\n", format::pairing_code(&code.code)))?;
                    self.wait_until(code.expire_time.as_ref(), output)?;
                }
                Ok(false)
            }
            Some(Step::Paired(paired)) => {
                if !output.json {
                    self.wipe(output)?;
                    let text = paired.instance.as_ref().map(format::instance);
                    output.line(&format!("Paired.\n{}", text.unwrap_or_default()))?;
                }
                Ok(true)
            }
            Some(Step::Expired(_)) => {
                self.wipe(output)?;
                Err(Failure::Outcome(
                    "nobody scanned or typed in time; pair again for new codes".to_owned(),
                ))
            }
            Some(Step::Refused(refused)) => {
                self.wipe(output)?;
                let reason = refused.reason().as_str_name();
                let reason = reason
                    .strip_prefix("PAIRING_REFUSED_REASON_")
                    .unwrap_or(reason);
                let detail = format::plain(&refused.detail);
                Err(Failure::Outcome(format!(
                    "the pairing was refused: {reason}: {detail}"
                )))
            }
            // A step of a newer server that is not terminal, or it would be the last.
            None => Ok(false),
        }
    }

    /// Draws a QR where the one before it was.
    fn show_qr(&mut self, text: &str, output: &mut Output) -> Result<(), Failure> {
        self.wipe(output)?;
        if self.lines > 0 {
            output.raw(&format!("\u{1b}[{}A\u{1b}[J", self.lines))?;
        } else {
            output.line("In WhatsApp: Settings > Linked devices > Link a device, then scan")?;
        }
        let drawing = qr::draw(text, output.terminal).unwrap_or_else(|| format::plain(text));
        output.line(&drawing)?;
        if output.terminal {
            self.lines = drawing.lines().count();
        } else {
            output.line(&format::plain(text))?;
        }
        Ok(())
    }

    fn wait_until(&mut self, end: Option<&Timestamp>, output: &mut Output) -> Result<(), Failure> {
        match output.terminal {
            true => {
                self.expires = end.and_then(instant);
                self.count_down(output)
            }
            false => output.line(&format!("Good until {}.", format::time(end))),
        }
    }

    fn count_down(&self, output: &mut Output) -> Result<(), Failure> {
        let Some(end) = self.expires else {
            return Ok(());
        };
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        output.raw(&format!(
            "{CLEAR_LINE}Good for another {} s.",
            left.as_secs()
        ))
    }

    /// Takes the countdown away.
    fn wipe(&mut self, output: &mut Output) -> Result<(), Failure> {
        match self.expires.take() {
            Some(_) => output.raw(CLEAR_LINE),
            None => Ok(()),
        }
    }
}

fn instant(time: &Timestamp) -> Option<SystemTime> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanos = u32::try_from(time.nanos).ok()?;
    UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::output::captured,
        proto::v1::{
            Instance, Paired, PairingCode, PairingExpired, PairingRefused, PairingRefusedReason,
            QrCode,
        },
    };

    fn step(step: Step) -> PairInstanceResponse {
        PairInstanceResponse { step: Some(step) }
    }

    fn soon() -> Option<Timestamp> {
        Some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 0,
        })
    }

    #[test]
    fn a_code_is_shown_in_halves_with_its_end() {
        let (mut output, results, _) = captured::output(false);
        let code = Step::PairingCode(PairingCode {
            code: "ABCD1234".into(),
            expire_time: soon(),
        });
        let settled = Screen::default().take(step(code), &mut output);
        assert!(matches!(settled, Ok(false)));
        let text = results.text();
        assert!(text.contains("ABCD-1234"), "{text}");
        assert!(text.contains("2023-11-14T22:13:20Z"), "{text}");
    }

    #[test]
    fn a_qr_is_drawn_and_also_printed_where_nobody_can_scan() {
        let (mut output, results, _) = captured::output(false);
        let code = Step::QrCode(QrCode {
            text: "2@abc,d,e,f,1".into(),
            expire_time: soon(),
            ..QrCode::default()
        });
        let settled = Screen::default().take(step(code), &mut output);
        assert!(matches!(settled, Ok(false)));
        let text = results.text();
        assert!(text.contains('▀') && text.contains("\n2@abc,d,e,f,1\n"));
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn a_new_qr_takes_the_place_of_the_old_one() {
        let (mut output, results, _) = captured::output(false);
        output.terminal = true;
        let mut screen = Screen::default();
        for text in ["2@one", "2@two"] {
            let code = Step::QrCode(QrCode {
                text: text.into(),
                expire_time: soon(),
                ..QrCode::default()
            });
            assert!(matches!(screen.take(step(code), &mut output), Ok(false)));
        }
        let up = format!("\u{1b}[{}A\u{1b}[J", screen.lines);
        assert_eq!(results.text().matches(&up).count(), 1);
    }

    #[test]
    fn only_paired_is_a_success() {
        for (last, good) in [
            (
                Step::Paired(Paired {
                    instance: Some(Instance::default()),
                }),
                true,
            ),
            (Step::Expired(PairingExpired {}), false),
            (
                Step::Refused(PairingRefused {
                    reason: PairingRefusedReason::PasskeyRequired.into(),
                    detail: "the account wants a passkey".into(),
                }),
                false,
            ),
        ] {
            for json in [false, true] {
                let (mut output, results, _) = captured::output(json);
                let outcome = Screen::default().take(step(last.clone()), &mut output);
                assert_eq!(outcome.is_ok(), good, "{last:?}");
                assert_eq!(results.text().lines().count() == 1, json, "{last:?}");
                if let Err(Failure::Outcome(why)) = outcome
                    && why.contains("refused")
                {
                    assert!(why.contains("PASSKEY_REQUIRED"), "{why}");
                }
            }
        }
    }
}
