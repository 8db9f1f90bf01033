//! `Plan`: a workload with its groups unrolled: each queue, route, publisher and consumer of the run, and its thread.

use super::workload::{AckMode, Arrival, ExchangeKind, PublisherGroup, Spread, Workload};

/// All that takes part in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Fixes checks, patterns and random schedules of the run.
    pub seed: u64,
    /// The exchange to declare, empty for the default one.
    pub exchange: String,
    /// Its kind.
    pub kind: ExchangeKind,
    /// Names of the queues.
    pub queues: Vec<QueuePlan>,
    /// Routing keys (and header values) that publishers take in turn.
    pub routes: Vec<Route>,
    /// Queues that each message goes to.
    pub copies: u64,
    /// Publishers by their number.
    pub publishers: Vec<PublisherPlan>,
    /// Consumers by their number.
    pub consumers: Vec<ConsumerPlan>,
}

/// A queue to declare.
#[derive(Clone, Debug)]
pub struct QueuePlan {
    /// Its name.
    pub name: String,
    /// Index of its group in the workload.
    pub group: usize,
    /// The route whose messages it gets.
    pub route: usize,
}

/// One place to publish to.
#[derive(Clone, Debug)]
pub struct Route {
    /// Routing key of the messages.
    pub key: String,
    /// Routing key of the binding.
    pub binding_key: String,
}

/// One publisher.
#[derive(Clone, Debug)]
pub struct PublisherPlan {
    /// Its number in the run.
    pub number: u32,
    /// The thread that runs it.
    pub thread: usize,
    /// Sizes of its bodies in turn.
    pub sizes: Vec<u32>,
    /// Its routes in turn: message n takes the one at n modulo their number.
    pub routes: Vec<usize>,
    /// Messages in its ring of encoded ones.
    pub slots: usize,
    /// Whether messages are persistent.
    pub persistent: bool,
    /// Whether messages that find no queue come back.
    pub mandatory: bool,
    /// Messages that may wait for their confirm; 0: no confirms.
    pub confirm_window: usize,
    /// Its open loop, or `None` for a closed one.
    pub pace: Option<Pace>,
    /// The broker's core that must have accepted its connection.
    pub lane: Option<u16>,
}

/// An open loop.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How messages are spread in time.
    pub arrival: Arrival,
    /// Messages a second.
    pub rate: f64,
    /// Part of an interval that it begins later than the first of its group.
    pub share: f64,
}

/// One consumer.
#[derive(Clone, Debug)]
pub struct ConsumerPlan {
    /// The thread that runs it.
    pub thread: usize,
    /// The queues it consumes.
    pub queues: Vec<usize>,
    /// How it acknowledges.
    pub ack: AckMode,
    /// Its basic.qos, 0: none.
    pub prefetch: u16,
    /// The broker's core that must have accepted its connection.
    pub lane: Option<u16>,
}

impl Plan {
    /// Unrolls `workload` over `threads` threads; `suffix` makes the names of its queues unlike those of any other run.
    pub fn new(workload: &Workload, threads: usize, suffix: u64) -> Self {
        let prefix = format!("perf.{}.{suffix:012x}", workload.name);
        let kind = workload.exchange.kind;
        let queues = plan_queues(workload, &prefix);
        let routes = plan_routes(kind, &queues);
        let exchange = if kind == ExchangeKind::Default {
            String::new()
        } else {
            prefix
        };
        let copies = (queues.len() / routes.len()) as u64;
        let publishers = plan_publishers(workload, routes.len(), threads);
        let consumers = plan_consumers(workload, queues.len(), threads);
        Self {
            seed: suffix,
            exchange,
            kind,
            queues,
            routes,
            copies,
            publishers,
            consumers,
        }
    }

    /// Which of publisher `publisher`'s messages reach `queue`: the first one's number and the distance to the next.
    pub fn numbers_reaching(&self, queue: usize, publisher: usize) -> Option<(u64, u64)> {
        let routes = &self.publishers[publisher].routes;
        let first = routes
            .iter()
            .position(|&route| route == self.queues[queue].route)?;
        Some((first as u64, routes.len() as u64))
    }

    /// Publishers of a thread, by their number.
    pub fn publishers_of(&self, thread: usize) -> impl Iterator<Item = &PublisherPlan> {
        self.publishers
            .iter()
            .filter(move |publisher| publisher.thread == thread)
    }

    /// Largest body in bytes.
    pub fn body_bytes_max(&self) -> usize {
        self.publishers
            .iter()
            .flat_map(|publisher| &publisher.sizes)
            .max()
            .map_or(0, |&size| size as usize)
    }

    /// Most messages in a publisher's ring.
    pub fn slots_max(&self) -> usize {
        self.publishers
            .iter()
            .map(|publisher| publisher.slots)
            .max()
            .unwrap_or(1)
    }
}

fn plan_queues(workload: &Workload, prefix: &str) -> Vec<QueuePlan> {
    let is_fanout = workload.exchange.kind == ExchangeKind::Fanout;
    let groups = workload.queues.iter().enumerate();
    let group_of_each = groups.flat_map(|(group, settings)| (0..settings.count).map(move |_| group));
    let plan = |(number, group)| QueuePlan {
        name: format!("{prefix}.{number}"),
        group,
        route: if is_fanout { 0 } else { number },
    };
    group_of_each.enumerate().map(plan).collect()
}

fn plan_routes(kind: ExchangeKind, queues: &[QueuePlan]) -> Vec<Route> {
    let same = |key: String| Route {
        binding_key: key.clone(),
        key,
    };
    match kind {
        ExchangeKind::Default => queues.iter().map(|queue| same(queue.name.clone())).collect(),
        ExchangeKind::Fanout => vec![same(String::new())],
        ExchangeKind::Direct | ExchangeKind::Headers => {
            (0..queues.len()).map(|n| same(format!("route.{n}"))).collect()
        }
        ExchangeKind::Topic => (0..queues.len())
            .map(|n| Route {
                key: format!("route.{n}.event"),
                binding_key: format!("route.{n}.*"),
            })
            .collect(),
    }
}

fn plan_publishers(workload: &Workload, routes: usize, threads: usize) -> Vec<PublisherPlan> {
    let in_all: u32 = workload.publishers.iter().map(|group| group.count).sum();
    let ring_bytes = (RINGS_BYTES / in_all as usize).clamp(RING_BYTES_MIN, RING_BYTES_MAX);
    let members = workload
        .publishers
        .iter()
        .flat_map(|group| (0..group.count).map(move |member| (group, member)));
    members
        .enumerate()
        .map(|(number, (group, member))| {
            let own = if group.spread == Spread::All {
                (0..routes).collect()
            } else {
                vec![number % routes]
            };
            PublisherPlan {
                number: number as u32,
                thread: threads - 1 - number % threads,
                slots: slots(group.body_bytes.all(), own.len(), ring_bytes),
                sizes: group.body_bytes.all().to_vec(),
                routes: own,
                persistent: group.persistent,
                mandatory: group.mandatory,
                confirm_window: group.confirm_window as usize,
                pace: pace(group, member),
                lane: group.lane,
            }
        })
        .collect()
}

fn pace(group: &PublisherGroup, member: u32) -> Option<Pace> {
    let share = f64::from(member) / f64::from(group.count);
    (group.rate > 0.0).then(|| Pace {
        arrival: group.arrival,
        rate: group.rate / f64::from(group.count),
        share,
    })
}

/// Messages in a ring of about `ring_bytes`: whole turns of routes and sizes, so that a slot never changes either.
fn slots(sizes: &[u32], routes: usize, ring_bytes: usize) -> usize {
    let turn = least_common_multiple(sizes.len(), routes);
    let mean = sizes.iter().map(|&size| size as usize).sum::<usize>() / sizes.len() + FRAMES_BYTES;
    turn * (ring_bytes / (mean * turn)).max(2_usize.div_ceil(turn))
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    a / x * b
}

fn plan_consumers(workload: &Workload, queues: usize, threads: usize) -> Vec<ConsumerPlan> {
    let groups = || {
        workload
            .consumers
            .iter()
            .flat_map(|group| (0..group.count).map(move |_| group))
    };
    let in_all = groups().count();
    groups()
        .enumerate()
        .map(|(number, group)| {
            let first = number % queues;
            ConsumerPlan {
                // All consumers of a queue share a thread, so that one tally sees all that comes out of the queue.
                thread: first % threads,
                queues: if in_all < queues {
                    (number..queues).step_by(in_all).collect()
                } else {
                    vec![first]
                },
                ack: group.ack,
                prefetch: group.prefetch,
                lane: group.lane,
            }
        })
        .collect()
}

/// Encoded messages a publisher keeps: enough for a full write, little enough to stay in the core's cache.
const RING_BYTES_MAX: usize = 256 << 10;
const RING_BYTES_MIN: usize = 4 << 10;
const RINGS_BYTES: usize = 64 << 20;
/// About what the frames around a body take.
const FRAMES_BYTES: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, threads: usize) -> Plan {
        let workload =
            Workload::parse(&format!("name = \"w\"\n{text}"), "test", &[]).expect("the text is a workload");
        Plan::new(&workload, threads, 1)
    }

    #[test]
    fn a_fanout_has_one_route_and_as_many_copies_as_queues() {
        let plan = plan(
            "exchange.kind = \"fanout\"\n[[queue]]\ncount = 8\n[[publisher]]\nbody_bytes = 64\n",
            1,
        );
        assert_eq!((plan.routes.len(), plan.copies), (1, 8));
        assert_eq!(plan.numbers_reaching(7, 0), Some((0, 1)));
    }

    #[test]
    fn publishers_take_queues_in_turn_unless_they_have_their_own() {
        let text = "[[queue]]\ncount = 4\n[[publisher]]\nbody_bytes = 64\n[[publisher]]\nbody_bytes = 64\nspread = \"own\"\n";
        let plan = plan(text, 1);
        assert_eq!(plan.numbers_reaching(3, 0), Some((3, 4)));
        assert_eq!(plan.numbers_reaching(1, 1), Some((0, 1)));
        assert_eq!(plan.numbers_reaching(2, 1), None);
    }

    #[test]
    fn few_consumers_share_the_queues_and_many_compete_on_one_thread() {
        let few = plan(
            "[[queue]]\ncount = 5\n[[publisher]]\nbody_bytes = 1\n[[consumer]]\ncount = 2\n",
            2,
        );
        assert_eq!(few.consumers[1].queues, [1, 3]);
        let many = plan(
            "[[queue]]\ncount = 2\n[[publisher]]\nbody_bytes = 1\n[[consumer]]\ncount = 4\n",
            2,
        );
        assert_eq!(many.consumers[3].queues, [1]);
        assert_eq!(many.consumers[1].thread, many.consumers[3].thread);
    }

    #[test]
    fn a_ring_holds_whole_turns_of_routes_and_sizes() {
        let plan = plan(
            "[[queue]]\ncount = 6\n[[publisher]]\nbody_bytes = [16, 64, 128, 1024]\n",
            1,
        );
        assert_eq!(plan.publishers[0].slots % 12, 0);
        let large = slots(&[10 << 20], 1, 256 << 10);
        assert_eq!(large, 2);
    }
}
