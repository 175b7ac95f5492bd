//! Rules broken on purpose, to show that the checkers notice (docs/mutants.md).
//!
//! [`breaks`] stands at the place of each rule, last in its condition: it is asked only where the
//! answer changes what happens, so that every yes is a difference and is counted. It does not test
//! anything itself; `tests/mutants.rs` does.
//!
//! In a release build [`breaks`] is a constant `false`, proved when that build is compiled, and there
//! is no way to switch a mutant on. Which mutants are on belongs to a thread, in debug builds only:
//! the one place of the core that is not its arguments.

/// Declares the enum with the list of its variants and the rule that each breaks.
macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident = $rule:literal,)+) => {
        /// A rule and the way in which it is broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mutant {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Mutant {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The rule: a number of DESIGN 3.2, or a name.
            #[must_use]
            pub const fn rule(self) -> &'static str {
                match self {
                    $(Self::$name => $rule,)+
                }
            }
        }
    };
}

mutants! {
    /// Recovery counts shards at the highest ballot of acceptance alone.
    CountsHighestBallotOnly = "1",
    /// Later shards of a value replace the earlier ones.
    ReplacesShards = "2",
    /// A recovered value is proposed under a new id.
    RenamesValue = "3",
    /// A recovered value is proposed under its old id in another code.
    RecodesValue = "3",
    /// A leader's ballot moves the homes of the shards.
    MovesHomes = "4",
    /// A newcomer that has not heard its place takes its id for it.
    GuessesHome = "4",
    /// A leader decides with Q1 - 1 promises.
    DecidesWithFewer = "5",
    /// A promise counts before all its pages are there.
    CountsPartialPromises = "5",
    /// The highest origin ballot wins, not the highest ballot of acceptance.
    OriginWins = "5",
    /// A no-op is proposed although claims reach k.
    IgnoresClaims = "5",
    /// A promise hides what its sender has applied.
    HidesApplied = "5",
    /// A late promise changes what is decided.
    DecidesAgain = "6",
    /// Earlier single shards count as copies once copies are sent.
    CountsSinglesAsCopies = "7",
    /// A value is chosen when all nodes that seem alive have acknowledged it.
    DetectorChooses = "8",
    /// Acceptances are answered before they are durable.
    AcknowledgesEarly = "9",
    /// Promises are answered before they are durable.
    PromisesEarly = "9",
    /// A candidate asks for promises before its own ballot is durable.
    PreparesEarly = "9",
    /// An acceptor compares ids and not what they stand for.
    IgnoresDigest = "9",
    /// The tail that recovery found is not made durable before anything is answered.
    TrustsTail = "9",
    /// A commit covers what was accepted at other ballots.
    CommitsAnyBallot = "10",
    /// A leader takes its value for chosen because a node has applied the slot.
    TrustsApplied = "10",
    /// An Accept for an applied slot is accepted.
    AcceptsApplied = "10",
    /// Acknowledgements of a node's earlier leadership count for its present one.
    CountsOldAcks = "10",
    /// What a node holds is taken for the chosen value whatever its id.
    GathersAnyId = "10",
    /// A leader leads on when another ballot has chosen in a slot that it has not come to.
    LeadsOvertaken = "10",
    /// A configuration is in force when it is proposed.
    EpochBeforeApplied = "11",
    /// The prepare quorum of the newest epoch seen decides older slots too.
    ForgetsOldEpoch = "11",
    /// A change of members is closed before those who are to be members hold every earlier slot.
    ClosesUnready = "11",
    /// The entry that closes a change of members is chosen when it is so among the old ones.
    ClosesByOldAlone = "11",
    /// The entry that closes a change of members is chosen when it is so among the new ones.
    ClosesByNewAlone = "11",
    /// A change of members begins although few know that the one before is done.
    ChangesUnsettled = "11",
    /// Whoever has the entry chosen that starts other members, or a larger prepare quorum, goes on
    /// behind it with the promises it has.
    IgnoresCut = "11",
    /// What was proposed in an older epoch counts behind the entry that ended it.
    OldEpochOvertakes = "11",
    /// Promises of nodes that are no members count.
    CountsStrangers = "11",
    /// A node that lost its data directory is accepted under its old id.
    AcceptsLostIdentity = "12",
    /// A promise says nothing of damaged slots.
    HidesDamage = "13",
    /// A damaged slot is answered from an older record.
    AnswersOlderRecord = "13",
    /// A slot known to be chosen is answered from an older record.
    AnswersOlderOfChosen = "13",
    /// A value is accepted however far it lies above what is applied.
    AcceptsFarAhead = "13",
    /// What a disk has lost counts as held after a restart.
    CountsLost = "13",
    /// A damaged promise counts towards Q1.
    CountsDamaged = "13",
    /// A damaged slot is sound again with its home shard alone.
    RepairsWithHome = "13",
    /// An index snapshot counts before it is durable.
    ForgetsEarly = "14",
    /// The log forgets slots that no snapshot covers.
    ForgetsUncovered = "14",
    /// The floor of a snapshot that came from a peer is not made durable.
    ForgetsFloor = "14",
    /// What was current before a snapshot came from a peer stays in the log.
    KeepsReplaced = "14",
    /// A compare-and-set that failed supersedes what it met.
    ForgetsMet = "14",
    /// What the log may forget stays in it for ever.
    NeverFrees = "14",
    /// A repeated request is applied again.
    AppliesRepeats = "exactly once",
    /// The results of requests are forgotten at a restart.
    ForgetsResults = "exactly once",
    /// A request below the highest number seen counts as applied.
    RemembersHighestOnly = "exactly once",
    /// A request of a session that was evicted is executed.
    GuessesEvicted = "exactly once",
    /// A compare-and-set compares with another version than the key's, and names that one.
    MistakesVersion = "compare-and-set",
    /// A lease never ends.
    IgnoresLeaseExpiry = "lease",
    /// A leader uses all of its lease, however slow its clock may be.
    IgnoresDrift = "lease",
    /// A lease counts from the answer, not from the question.
    LeaseFromReply = "lease",
    /// A granter promises another ballot while its lease lasts.
    GrantersPromise = "lease",
    /// A node that restarts is not bound by what it granted before.
    ForgetsGrants = "lease",
    /// A leader that has handed over goes on leading.
    LeadsAfterTransfer = "lease",
    /// A leader does not confirm that it leads before it answers a read.
    ReadsUnconfirmed = "reads",
    /// A heartbeat sent before a read came confirms it.
    ConfirmsWithOlder = "reads",
    /// Reads are confirmed by old members behind the entry that ends them.
    ConfirmsBehindMembers = "reads",
    /// A new leader answers before what phase 1 recovered is applied.
    ReadsBeforeRecovered = "reads",
    /// An eventual read may show less than its client has seen.
    ReadsGoBack = "reads",
    /// A node campaigns without asking whether it may.
    SkipsPreVote = "pre-vote",
    /// A leader that hears too few nodes goes on.
    NeverStepsDown = "step-down",
    /// A leader waits for ever for what nobody heard has applied.
    StaysLacking = "step-down",
    /// What a node refused as too far ahead it is offered again by the clock alone.
    OffersByClock = "progress",
}

#[cfg(debug_assertions)]
pub use switch::{breaking, breaks, is_any};

#[cfg(debug_assertions)]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        /// A bit for each mutant that is on.
        static ACTIVE: Cell<u128> = const { Cell::new(0) };
        static REACHED: Cell<u64> = const { Cell::new(0) };
    }

    const _: () = assert!(Mutant::ALL.len() <= 128, "a bit for each mutant");

    fn bit(mutant: Mutant) -> u128 {
        1 << mutant as u32
    }

    /// Is the rule of `mutant` broken? Ask last: a yes is counted as a difference made.
    #[must_use]
    pub fn breaks(mutant: Mutant) -> bool {
        let is_broken = ACTIVE.get() & bit(mutant) != 0;
        if is_broken {
            REACHED.set(REACHED.get() + 1);
        }
        is_broken
    }

    /// Is any rule broken? Then the machines' own invariants need not hold.
    #[must_use]
    pub fn is_any() -> bool {
        ACTIVE.get() != 0
    }

    /// Runs `run` with these rules broken on this thread, a panic of it included; also how often a
    /// broken rule made a difference.
    pub fn breaking<T>(
        mutants: &[Mutant],
        run: impl FnOnce() -> T,
    ) -> (std::thread::Result<T>, u64) {
        ACTIVE.set(mutants.iter().fold(0, |all, mutant| all | bit(*mutant)));
        REACHED.set(0);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        ACTIVE.set(0);
        (outcome, REACHED.take())
    }
}

/// Is the rule of `mutant` broken? Never, in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn breaks(_mutant: Mutant) -> bool {
    false
}

/// Is any rule broken? Never, in a release build.
#[cfg(not(debug_assertions))]
#[must_use]
pub const fn is_any() -> bool {
    false
}

/// The compiler's proof that a release build cannot break a rule.
#[cfg(not(debug_assertions))]
const _: () = {
    let mut at = 0;
    while at < Mutant::ALL.len() {
        assert!(!breaks(Mutant::ALL[at]), "a release build breaks a rule");
        at += 1;
    }
    assert!(!is_any(), "a release build breaks a rule");
};
