//! Budgets, and whether a figure is within. Pure.

use super::table::number;

/// What a figure may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
            Self::Below(limit) => value < limit,
        }
    }

    fn words(self) -> String {
        match self {
            Self::AtMost(most) => format!("at most {most}"),
            Self::AtLeast(least) => format!("at least {least}"),
            Self::Below(limit) => format!("below {limit}"),
        }
    }
}

/// One budget, and what was found.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    what: String,
    bound: Bound,
    /// None: not measured, for the reason that the notes have.
    found: Option<f64>,
}

impl Verdict {
    pub(crate) fn new(what: impl Into<String>, bound: Bound, found: Option<f64>) -> Self {
        Self { what: what.into(), bound, found }
    }

    /// One line.
    fn line(&self) -> String {
        let Self { what, bound, found } = self;
        let bound_words = bound.words();
        match found {
            None => format!("**not measured**: {what} (budget: {bound_words})"),
            Some(value) => {
                let verdict = if bound.holds(*value) { "met" } else { "missed" };
                let shown = number(*value, if value.abs() < 100.0 { 3 } else { 0 });
                format!("**{verdict}**: {what}: {shown} (budget: {bound_words})")
            }
        }
    }
}

/// As a list of Markdown.
pub(crate) fn list(verdicts: &[Verdict]) -> String {
    let lines = verdicts.iter().map(|verdict| format!("- {}\n", verdict.line()));
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_missed_or_not_measured() {
        let line = |bound, found| Verdict::new("ratio", bound, found).line();
        assert_eq!(
            line(Bound::AtMost(2.5), Some(2.5)),
            "**met**: ratio: 2.500 (budget: at most 2.5)"
        );
        assert!(line(Bound::AtMost(2.5), Some(2.6)).starts_with("**missed**: ratio: 2.600"));
        assert!(line(Bound::AtLeast(0.97), Some(0.96)).starts_with("**missed**"));
        assert!(line(Bound::AtLeast(0.97), Some(0.97)).starts_with("**met**"));
        assert!(line(Bound::Below(1.0), Some(1.0)).starts_with("**missed**"));
        assert!(line(Bound::Below(1.0), Some(f64::NAN)).starts_with("**missed**"));
        assert!(line(Bound::AtLeast(2e5), Some(2.5e5)).contains(": 250,000 ("));
        assert!(line(Bound::Below(1.0), None).starts_with("**not measured**"));
    }
}
