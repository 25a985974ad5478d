//! `ChoiceSink`: where the engine puts the events of a choice.

use std::ops::ControlFlow;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedSender;

use super::metrics::Timings;
use super::request_log::meter::ChoiceMeter;
use crate::engine::{Event, EventSink};

/// Takes the events of a choice to the request that hears them.
pub(super) struct ChoiceSink {
    index: usize,
    stream: bool,
    /// Those that were not told yet, where they are all told at the end.
    held: Vec<Event>,
    sender: UnboundedSender<(usize, Event)>,
}

impl ChoiceSink {
    /// For the choice `index`, whose events are told when they happen (`stream`), or all at the end.
    pub(super) fn new(index: usize, stream: bool, sender: UnboundedSender<(usize, Event)>) -> Self {
        Self { index, stream, held: Vec::new(), sender }
    }

    /// Passes events on, measures when they come after `submitted`, and counts tokens.
    pub(super) fn timed(
        mut self,
        timings: Timings,
        mut meter: ChoiceMeter,
        submitted: Instant,
    ) -> EventSink {
        let mut last_token: Option<Instant> = None;
        Box::new(move |event| {
            let now = Instant::now();
            meter.hear(&event, now);
            match &event {
                Event::Started { .. } => timings.queue(now - submitted),
                Event::Step(step) if step.token.is_some() => match last_token.replace(now) {
                    None => timings.first_token(now - submitted),
                    Some(before) => timings.next_token(now - before),
                },
                Event::Step(_) | Event::Prompt(_) => {}
                Event::Finished { .. } | Event::Failed(_) => timings.request(now - submitted),
            }
            self.tell(event)
        })
    }

    /// `Break` where nobody listens any more.
    fn tell(&mut self, event: Event) -> ControlFlow<()> {
        let is_last = matches!(event, Event::Finished { .. } | Event::Failed(_));
        if !self.stream && !is_last {
            self.held.push(event);
            return match self.sender.is_closed() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            };
        }
        let held = std::mem::take(&mut self.held);
        match held.into_iter().chain([event]).try_for_each(|e| self.sender.send((self.index, e))) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}
