//! Faults by name, on a schedule.

use super::AwsAction;

/// What goes wrong with one request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EcrFault {
    /// It is refused with this status and text, in the form of its plane. The code is what ECR gives
    /// with such a status (`TOOMANYREQUESTS`, `DENIED`, `UNSUPPORTED`, otherwise `UNKNOWN`; the API's
    /// `ThrottlingException`, `AccessDeniedException`, otherwise `ServerException`).
    Refuse {
        /// HTTP status; the API answers 400 or 500.
        status: u16,
        /// What the answer says.
        message: String,
    },
    /// Its connection is reset as soon as so many bytes of its body came, or at once if it has none.
    Reset {
        /// Bytes of the body that are still taken.
        after_bytes: u64,
    },
    /// Nothing more is read and nothing answered as soon as so many bytes of its body came.
    Stall {
        /// Bytes of the body that are still taken.
        after_bytes: u64,
    },
    /// Every token that was minted so far ends just before it.
    ExpireTokens,
    /// The upload that it names is forgotten just before it.
    DropUpload,
    /// It is done, and its answer gets lost.
    LoseAnswer,
    /// Of the API: a part is refused, as the one that begins the layer is wanted again.
    Rewind,
}

/// Faults that did not happen yet, and how many requests must pass before each.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planned: Vec<(AwsAction, usize, EcrFault)>,
    happened: usize,
    losing: Vec<AwsAction>,
}

impl Faults {
    pub(super) fn plan(&mut self, action: AwsAction, nth: usize, fault: EcrFault) {
        assert!(nth > 0, "requests are counted from 1");
        self.planned.push((action, nth - 1, fault));
    }

    pub(super) fn happened(&self) -> usize {
        self.happened
    }

    /// The answer to this action gets lost.
    pub(super) fn lose(&mut self, action: AwsAction) {
        self.losing.push(action);
    }

    /// Whether the answer to this action gets lost; once for each time that one was to.
    pub(super) fn loses(&mut self, action: AwsAction) -> bool {
        let at = self.losing.iter().position(|losing| *losing == action);
        at.map(|at| self.losing.swap_remove(at)).is_some()
    }

    /// What goes wrong with this request. Counts it for the faults that wait.
    pub(super) fn due(&mut self, action: AwsAction) -> Vec<EcrFault> {
        let mut due = Vec::new();
        self.planned.retain_mut(|(planned, to_pass, fault)| match (*planned == action, &to_pass) {
            (true, 0) => {
                due.push(fault.clone());
                false
            }
            (true, _) => {
                *to_pass -= 1;
                true
            }
            (false, _) => true,
        });
        self.happened += due.len();
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_happens_once_at_its_turn() {
        let mut faults = Faults::default();
        faults.plan(AwsAction::PutImage, 1, EcrFault::ExpireTokens);
        faults.plan(AwsAction::PutImage, 3, EcrFault::DropUpload);
        assert_eq!(faults.due(AwsAction::BatchGetImage), []);
        let turns: Vec<_> = (0..4).map(|_| faults.due(AwsAction::PutImage)).collect();
        assert_eq!(turns, [vec![EcrFault::ExpireTokens], vec![], vec![EcrFault::DropUpload], vec![]]);
        assert_eq!(faults.happened(), 2);
    }
}
