//! What was observed of a listener: the kernel side's histograms, as the daemon keeps them.

use tcpq_common::{
    histogram::{Fills, Histograms, Times},
    layout::Zero,
};

/// The histograms of one listener, or of many. One without an observation takes no memory: of
/// most listeners no connection was ever abandoned, and some kernels tell only some of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observations {
    accept_wait: Option<Box<Times>>,
    abandoned_wait: Option<Box<Times>>,
    handshake: Option<Box<Times>>,
    accept_fill: Option<Box<Fills>>,
    syn_fill: Option<Box<Fills>>,
}

impl From<&Histograms> for Observations {
    fn from(all: &Histograms) -> Self {
        let Histograms { accept_wait, abandoned_wait, handshake, accept_fill, syn_fill } = all;
        Self {
            accept_wait: begun(accept_wait),
            abandoned_wait: begun(abandoned_wait),
            handshake: begun(handshake),
            accept_fill: begun(accept_fill),
            syn_fill: begun(syn_fill),
        }
    }
}

impl Observations {
    /// From the accept queue to accept().
    pub fn accept_wait(&self) -> &Times {
        self.accept_wait.as_deref().unwrap_or(&Times::ZERO)
    }

    /// From the accept queue to the reset, as the listener closed.
    pub fn abandoned_wait(&self) -> &Times {
        self.abandoned_wait.as_deref().unwrap_or(&Times::ZERO)
    }

    /// From the first SYN-ACK to the accept queue.
    pub fn handshake(&self) -> &Times {
        self.handshake.as_deref().unwrap_or(&Times::ZERO)
    }

    /// The accept queue, with each connection that enters it.
    pub fn accept_fill(&self) -> &Fills {
        self.accept_fill.as_deref().unwrap_or(&Fills::ZERO)
    }

    /// The SYN queue, with each request that enters it.
    pub fn syn_fill(&self) -> &Fills {
        self.syn_fill.as_deref().unwrap_or(&Fills::ZERO)
    }

    /// Adds another listener's, or another life's.
    pub fn add(&mut self, other: &Self) {
        let Self { accept_wait, abandoned_wait, handshake, accept_fill, syn_fill } = other;
        add(&mut self.accept_wait, accept_wait.as_deref(), Times::add);
        add(&mut self.abandoned_wait, abandoned_wait.as_deref(), Times::add);
        add(&mut self.handshake, handshake.as_deref(), Times::add);
        add(&mut self.accept_fill, accept_fill.as_deref(), Fills::add);
        add(&mut self.syn_fill, syn_fill.as_deref(), Fills::add);
    }
}

fn begun<T: Copy + PartialEq + Zero>(histogram: &T) -> Option<Box<T>> {
    (*histogram != T::ZERO).then(|| Box::new(*histogram))
}

fn add<T: Copy>(sum: &mut Option<Box<T>>, more: Option<&T>, add: fn(&mut T, &T)) {
    match (sum, more) {
        (Some(sum), Some(more)) => add(sum, more),
        (sum @ None, Some(more)) => *sum = Some(Box::new(*more)),
        (_, None) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histograms(waits: u64, fills: u64) -> Histograms {
        let mut all = Histograms::ZERO;
        all.accept_wait.cells[3] = waits;
        all.accept_wait.sum_us = waits * 25;
        all.syn_fill.cells[0] = fills;
        all
    }

    #[test]
    fn it_says_what_was_observed_and_keeps_nothing_of_the_rest() {
        let all = histograms(2, 0);
        let observed = Observations::from(&all);
        assert_eq!(*observed.accept_wait(), all.accept_wait);
        assert_eq!(*observed.abandoned_wait(), Times::ZERO);
        assert_eq!(*observed.syn_fill(), Fills::ZERO);
        assert_eq!(Observations::from(&Histograms::ZERO), Observations::default());
        assert!(observed.abandoned_wait.is_none() && observed.syn_fill.is_none());
    }

    #[test]
    fn it_adds_as_histograms_do() {
        for (ours, theirs) in [((2, 0), (0, 3)), ((1, 1), (4, 5)), ((0, 0), (6, 7))] {
            let (mut sum, more) = (histograms(ours.0, ours.1), histograms(theirs.0, theirs.1));
            let mut observed = Observations::from(&sum);
            observed.add(&Observations::from(&more));
            sum.add(&more);
            assert_eq!(observed, Observations::from(&sum));
        }
    }
}
