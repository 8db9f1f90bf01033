//! `generate`: makes one run of a workload against a broker and returns what was measured.

use std::sync::Arc;
use std::thread;

use hdrhistogram::Histogram;

use super::affinity;
use super::body::Pattern;
use super::connection::{Client, ServerFacts};
use super::consumer::Consumer;
use super::error::PerfError;
use super::measure::{Board, Clock, Counts, Latencies, Phases, Timing};
use super::plan::Plan;
use super::process::ProcessSample;
use super::progress::Progress;
use super::publisher::Publisher;
use super::tally::Tally;
use super::topology;
use super::uri::AmqpUri;
use super::verify::Integrity;
use super::worker::{Common, Outcome, Worker};
use super::workload::Workload;

/// How a run is made.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The broker.
    pub uri: AmqpUri,
    /// Cores of the generator's threads, one each; empty: one thread anywhere.
    pub cores: Vec<usize>,
    /// The broker's process, whose CPU time and memory are taken.
    pub broker_pid: Option<u32>,
    /// Makes the names of queues unlike those of other runs.
    pub suffix: u64,
}

/// What a run measured.
#[derive(Debug)]
pub struct Measured {
    /// What the broker said of itself.
    pub server: ServerFacts,
    /// Queues that each message went to.
    pub copies: u64,
    /// Messages counted inside the window.
    pub counts: Counts,
    /// The window's length.
    pub seconds: f64,
    /// Messages counted in each second from the beginning of the warm-up.
    pub timeline: Vec<Counts>,
    /// From intended send time to delivery, in nanoseconds.
    pub end_to_end: Histogram<u64>,
    /// From intended send time to confirm, in nanoseconds.
    pub confirm: Histogram<u64>,
    /// From intended to actual send time, in nanoseconds; open loops only.
    pub send_delay: Histogram<u64>,
    /// What accounting found.
    pub integrity: Integrity,
    /// The broker's CPU seconds inside the window, and its last sample.
    pub broker: Option<(f64, ProcessSample)>,
    /// The generator's own CPU seconds inside the window.
    pub generator_cpu_seconds: f64,
}

/// Runs `workload` once. Declares what it needs, and deletes it again, also when the run fails.
pub fn generate(workload: &Workload, options: &GenerateOptions) -> Result<Measured, PerfError> {
    let plan = Arc::new(Plan::new(workload, options.cores.len().max(1), options.suffix));
    let mut control = Client::connect(&options.uri, "perf control")?;
    let server = control.server().clone();
    let measured = topology::declare(&mut control, workload, &plan)
        .and_then(|()| load(workload, options, &plan, server))
        .inspect_err(|_| delete_quietly(options, &plan))?;
    topology::delete(&mut control, &plan)?;
    control.close()?;
    Ok(measured)
}

/// After a failure: the control connection's channel may be closed, and the failure is what matters.
fn delete_quietly(options: &GenerateOptions, plan: &Plan) {
    let deleted = Client::connect(&options.uri, "perf control")
        .and_then(|mut client| topology::delete(&mut client, plan));
    if let Err(error) = deleted {
        eprintln!("what the run had declared could not all be deleted: {error}");
    }
}

fn load(
    workload: &Workload,
    options: &GenerateOptions,
    plan: &Arc<Plan>,
    server: ServerFacts,
) -> Result<Measured, PerfError> {
    let pattern = Arc::new(Pattern::new(plan.seed, plan.body_bytes_max(), plan.slots_max()));
    let threads = options.cores.len().max(1);
    let connect = |thread| Crew::connect(options, plan, &pattern, thread);
    let crews = (0..threads).map(connect).collect::<Result<Vec<_>, _>>()?;
    let common = common(workload, plan, &crews);
    let mut workers = Vec::new();
    for (thread, crew) in crews.into_iter().enumerate() {
        let tally = Tally::new(Arc::clone(plan), Arc::clone(&pattern), thread, workload);
        let worker = Worker::new(thread, common.clone(), crew.publishers, crew.consumers, tally);
        workers.push(worker.map_err(PerfError::system("setting up a poll loop"))?);
    }
    let (outcomes, observed) = work(workers, &common, options)?;
    Ok(sum_up(plan, server, outcomes, observed))
}

/// The clock starts here, and the first message is due a moment later.
fn common(workload: &Workload, plan: &Arc<Plan>, crews: &[Crew]) -> Common {
    let publishers: Vec<usize> = crews.iter().map(|crew| crew.publishers.len()).collect();
    let phases = Phases::new(
        HEAD_START,
        workload.warmup_seconds,
        workload.duration_seconds,
        workload.drain_seconds,
    );
    Common {
        plan: Arc::clone(plan),
        board: Arc::new(Board::new(&publishers)),
        timing: Timing {
            clock: Clock::start(),
            phases,
        },
        in_flight_limit: if plan.consumers.is_empty() {
            u64::MAX
        } else {
            workload.in_flight_limit()
        },
    }
}

/// Connections of one thread.
struct Crew {
    publishers: Vec<Publisher>,
    consumers: Vec<Consumer>,
}

impl Crew {
    fn connect(
        options: &GenerateOptions,
        plan: &Plan,
        pattern: &Pattern,
        thread: usize,
    ) -> Result<Self, PerfError> {
        let mut consumers = Vec::new();
        for (number, consumer) in plan
            .consumers
            .iter()
            .enumerate()
            .filter(|(_, consumer)| consumer.thread == thread)
        {
            let client = Client::connect_on(&options.uri, &format!("perf consumer {number}"), consumer.lane)?;
            consumers.push(Consumer::new(client, plan, consumer)?);
        }
        let mut publishers = Vec::new();
        for publisher in plan.publishers_of(thread) {
            let name = format!("perf publisher {}", publisher.number);
            let client = Client::connect_on(&options.uri, &name, publisher.lane)?;
            publishers.push(Publisher::new(client, plan, publisher, pattern)?);
        }
        Ok(Self {
            publishers,
            consumers,
        })
    }
}

/// What was seen from outside the threads.
struct Observed {
    broker: Option<(f64, ProcessSample)>,
    generator_cpu_seconds: f64,
}

fn work(
    workers: Vec<Worker>,
    common: &Common,
    options: &GenerateOptions,
) -> Result<(Vec<Outcome>, Observed), PerfError> {
    thread::scope(|scope| {
        let mut handles = Vec::new();
        for (thread, worker) in workers.into_iter().enumerate() {
            let core = options.cores.get(thread).copied();
            let builder = thread::Builder::new().name(format!("perf {thread}"));
            let spawned = builder.spawn_scoped(scope, move || {
                core.map_or(Ok(()), |core| affinity::pin(&[core]))?;
                worker.run()
            });
            handles.push(spawned.map_err(PerfError::system("starting a thread"))?);
        }
        let observed = observe(common, options);
        let join = |handle: thread::ScopedJoinHandle<'_, Result<Outcome, PerfError>>| {
            handle
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let outcomes = handles.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
        Ok((outcomes, observed))
    })
}

/// Shows progress, and samples the processes at both ends of the window.
fn observe(common: &Common, options: &GenerateOptions) -> Observed {
    let mut progress = Progress::start(common);
    let sample = || {
        (
            options.broker_pid.and_then(ProcessSample::take),
            ProcessSample::take(std::process::id()),
        )
    };
    progress.until(common.timing.phases.measure);
    let (broker_before, own_before) = sample();
    progress.until(common.timing.phases.drain);
    let (broker_after, own_after) = sample();
    progress.until_drained();
    Observed {
        broker: broker_before
            .zip(broker_after)
            .map(|(before, after)| (after.cpu_seconds - before.cpu_seconds, after)),
        generator_cpu_seconds: own_before
            .zip(own_after)
            .map_or(0.0, |(before, after)| after.cpu_seconds - before.cpu_seconds),
    }
}

fn sum_up(plan: &Plan, server: ServerFacts, outcomes: Vec<Outcome>, observed: Observed) -> Measured {
    let mut published = vec![0; plan.publishers.len()];
    for &(publisher, count) in outcomes.iter().flat_map(|outcome| &outcome.published) {
        published[publisher as usize] = count;
    }
    let mut measured = Measured {
        server,
        copies: plan.copies,
        counts: Counts::default(),
        seconds: 0.0,
        timeline: Vec::new(),
        end_to_end: empty_histogram(),
        confirm: empty_histogram(),
        send_delay: empty_histogram(),
        integrity: Integrity::default(),
        broker: observed.broker,
        generator_cpu_seconds: observed.generator_cpu_seconds,
    };
    for outcome in outcomes {
        measured.add(outcome, &published);
    }
    measured
}

impl Measured {
    fn add(&mut self, outcome: Outcome, published: &[u64]) {
        if let Some((counts, seconds)) = outcome.window.counted() {
            self.counts.add(&counts);
            self.seconds = self.seconds.max(seconds);
        }
        for (second, counts) in outcome.window.seconds().iter().enumerate() {
            if self.timeline.len() <= second {
                self.timeline.push(Counts::default());
            }
            self.timeline[second].add(counts);
        }
        self.integrity.add(&outcome.integrity);
        let (found, end_to_end) = outcome.tally.finish(published);
        self.integrity.add(&found);
        merge(&mut self.end_to_end, end_to_end.into_histogram());
        merge(&mut self.confirm, outcome.confirm.into_histogram());
        merge(&mut self.send_delay, outcome.send_delay.into_histogram());
    }
}

fn empty_histogram() -> Histogram<u64> {
    Latencies::default().into_histogram()
}

fn merge(into: &mut Histogram<u64>, from: Histogram<u64>) {
    into.add(from)
        .expect("all histograms of a run have the same bounds");
}

/// Nanoseconds between the last connection and the first message.
const HEAD_START: u64 = 20_000_000;
