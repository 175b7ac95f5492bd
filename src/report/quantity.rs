//! Names that results use for what is no field of its own: roles, kinds, samples and numbers.
//!
//! One list, so that what writes a result and what draws it agree. A unit is part of the name.

/// Role of a process: one of our nodes.
pub const NODE: &str = "node";
/// Role of a process: what makes the load.
pub const GENERATOR: &str = "generator";
/// Role of a process: another system's store.
pub const STORE: &str = "store";

/// Kind of operation: a whole record written (also an insert, or a field of one replaced).
pub const PUT: &str = "put";
/// Kind of operation: a record read.
pub const GET: &str = "get";
/// Kind of operation: records read in key order.
pub const SCAN: &str = "scan";
/// Kind of operation in a time line that does not tell them apart.
pub const ALL_KINDS: &str = "all";
/// Kind of operation: a record read and then written.
pub const RMW: &str = "rmw";

/// Part of an operation: the read of an update that replaces one field.
pub const UPDATE_READ: &str = "update_read";
/// Part of an operation: the put of such an update.
pub const UPDATE_PUT: &str = "update_put";
/// Part of an operation: the read of a read-modify-write.
pub const RMW_READ: &str = "rmw_read";
/// Part of an operation: the put of a read-modify-write.
pub const RMW_PUT: &str = "rmw_put";

/// Sample: from a leader's kill to the acknowledgement of a put submitted after it.
pub const FIRST_COMMIT_MS: &str = "first_commit_ms";
/// Sample: from a leader's kill to the first answer of a node that leads at a higher ballot.
pub const NEW_LEADER_MS: &str = "new_leader_ms";
/// Sample: from a leader's kill to the first answer to a linearizable read submitted after it.
pub const FIRST_READ_MS: &str = "first_read_ms";
/// Sample: from a node's return until it holds all that it should.
pub const REPAIR_SECONDS: &str = "repair_seconds";
/// Sample: bytes that all nodes sent for one repair.
pub const REPAIR_BYTES: &str = "repair_bytes";
/// Sample: age of the value that a read returned: how long ago a newer one was acknowledged.
pub const STALENESS_MS: &str = "staleness_ms";
/// Sample: from the end of a network's faults to the first success of an operation submitted after it.
pub const HEAL_MS: &str = "heal_ms";

/// Number: p99 of how late the generator was.
pub const LAG_P99_US: &str = "lag_p99_us";
/// Number: CPU of the generator per operation.
pub const GENERATOR_CPU_US_PER_OP: &str = "generator_cpu_us_per_op";
/// Number: reads that the leader's cache answered, of all that asked it, 0 to 1.
pub const CACHE_HIT_RATE: &str = "cache_hit_rate";
/// Number: the highest offered load that holds the objective. Figures and claims have the geometric
/// middle of it and the next one.
pub const CAPACITY_OPS_PER_S: &str = "capacity_ops_per_s";
/// Number: the lowest offered load that was seen not to hold it.
pub const CAPACITY_ABOVE_OPS_PER_S: &str = "capacity_above_ops_per_s";
/// Number: elections in a phase during which nothing was done that could cause one.
pub const UNPLANNED_ELECTIONS: &str = "unplanned_elections";
/// Number: faults of a time line that could not be carried out.
pub const FAULTS_NOT_DONE: &str = "faults_not_done";
/// Derived: the geometric mean of throughputs, of the stretches of a run between what is done to it.
pub const STRETCHES_OPS_PER_S: &str = "stretches_ops_per_s";
/// Derived: intervals in which an operation succeeded, of those between the first and the last
/// change of a time line (without one, of the run), 0 to 1.
pub const AVAILABILITY: &str = "availability";
/// Derived: putting a value together, of the median time of a read, 0 to 1.
pub const DECODE_SHARE: &str = "decode_share";
/// Number: reads that returned an older value than one acknowledged before them, 0 to 1.
pub const STALE_SHARE: &str = "stale_share";

/// Number, mean per write at the leader: its wait for room among the slots in flight.
pub const STAGE_QUEUE_US: &str = "stage_queue_us";
/// Number, mean per write at the leader: making the shards and their digests.
pub const STAGE_ENCODE_US: &str = "stage_encode_us";
/// Number, mean per write at the leader: until the last shard was handed to the network.
pub const STAGE_WIRE_US: &str = "stage_wire_us";
/// Number, mean per write at the leader: until its own shards were written and durable.
pub const STAGE_SYNC_US: &str = "stage_sync_us";
/// Number, mean per write at the leader: from all that until a quorum had answered.
pub const STAGE_QUORUM_US: &str = "stage_quorum_us";
/// Number, mean per write at the leader: from chosen until the answer was handed to the network.
pub const STAGE_APPLY_US: &str = "stage_apply_us";
/// All stages of a write, in order: they add up to its time within the leader.
pub const STAGES: [&str; 6] = [
    STAGE_QUEUE_US,
    STAGE_ENCODE_US,
    STAGE_WIRE_US,
    STAGE_SYNC_US,
    STAGE_QUORUM_US,
    STAGE_APPLY_US,
];
/// Number, mean per value put together from shards, on all nodes.
pub const STAGE_DECODE_US: &str = "stage_decode_us";
/// Number: values put together from shards, on all nodes.
pub const DECODES: &str = "decodes";
