//! `lanemq serve`: looks whether the machine allows it, starts the broker, and obeys signals until it has stopped.

use std::collections::BTreeSet;
use std::process::ExitCode;

use tracing::{error, info};

use super::{EXIT_CONFIG, EXIT_SOFTWARE, EXIT_UNAVAILABLE, check};
use crate::config::Config;
use crate::runtime::self_check::{Facts, Status, judge, raise_limits};
use crate::runtime::{Signal, SignalListener, available_cpus};
use crate::shard::start::{Broker, StartError, StopRequest};
use crate::storage::StorageError;

/// Runs a broker until a signal stops it.
///
/// SIGTERM and SIGINT tell every client to go, then stop; a second one stops at once.
pub fn run(config: &Config) -> ExitCode {
    raise_limits();
    if !machine_allows(config) {
        return ExitCode::from(EXIT_CONFIG);
    }
    let cpus = match lanes(config) {
        Ok(cpus) => cpus,
        Err(refusal) => {
            eprintln!("error: {refusal}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    match Broker::start(config, &cpus) {
        Ok(broker) => serve(config, broker, &cpus),
        Err(refusal) => refuse(&refusal),
    }
}

/// Prints what the machine lacks, with the remedy; says nothing when all is well.
fn machine_allows(config: &Config) -> bool {
    let findings = judge(&Facts::read(&config.data_dir, config.listen.as_slice()));
    let bad: Vec<_> = findings
        .into_iter()
        .filter(|finding| finding.status != Status::Ok)
        .collect();
    if !bad.is_empty() {
        eprint!("{}", check::table(&bad, false));
    }
    bad.iter().all(|finding| finding.status != Status::Failed)
}

/// The processors that become lanes.
fn lanes(config: &Config) -> Result<Vec<usize>, String> {
    let allowed: BTreeSet<u16> = available_cpus()
        .map_err(|error| format!("cannot read the process's affinity mask: {error}"))?
        .into_iter()
        .filter_map(|cpu| u16::try_from(cpu).ok())
        .collect();
    let lanes = config.cores.within(&allowed).map_err(|missing| {
        format!("cores {missing:?} are not among those this process may use ({allowed:?}): choose others with --cores, or widen the mask with `taskset`")
    })?;
    Ok(lanes.into_iter().map(usize::from).collect())
}

fn serve(config: &Config, broker: Broker, cpus: &[usize]) -> ExitCode {
    tell_started(config, &broker, cpus);
    let (stopper, importer) = (broker.stopper(), broker.importer());
    let signals = SignalListener::start(move |signal| match (signal, stopper.requested()) {
        (Signal::Hangup, _) => importer.import(),
        (_, StopRequest::Run) => {
            info!(
                ?signal,
                "stopping: clients are told to go; a second signal stops at once"
            );
            stopper.stop(StopRequest::Drain);
        }
        _ => stopper.stop(StopRequest::Now),
    });
    if let Err(error) = signals {
        error!(%error, "signals cannot be listened to");
        broker.request_stop(StopRequest::Now);
    }
    match broker.join() {
        Ok(()) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            error!(%error, "stopped by a fault; start again, and recovery will look at the logs");
            ExitCode::from(EXIT_SOFTWARE)
        }
    }
}

fn tell_started(config: &Config, broker: &Broker, cpus: &[usize]) {
    let startup = broker.startup;
    for address in config.listen.iter() {
        info!(%address, "listening");
    }
    info!(
        cores = ?cpus,
        durability = config.durability.name(),
        data_dir = %config.data_dir.display(),
        messages = startup.messages,
        queues = startup.queues,
        recovery_milliseconds = startup.recovery.as_millis() as u64,
        milliseconds = startup.listening.as_millis() as u64,
        "started"
    );
}

fn refuse(refusal: &StartError) -> ExitCode {
    eprintln!("error: {refusal}");
    ExitCode::from(match refusal {
        StartError::PortInUse { .. }
        | StartError::Definitions(_)
        | StartError::Core { .. }
        | StartError::Storage(StorageError::Directory(_)) => EXIT_CONFIG,
        StartError::Storage(_) => EXIT_UNAVAILABLE,
        StartError::Ended => EXIT_SOFTWARE,
    })
}
