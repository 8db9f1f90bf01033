//! A few seeds of the simulation; `cargo sim` runs many, and longer ones.

use lanemq::simulation::{Trace, run_seed};

/// Short runs, as this build is not optimised.
const STEPS: u64 = 4_000;

#[test]
fn no_promise_is_broken_in_ten_seeds() {
    for seed in 1..=10 {
        let trace = Trace::default();
        if let Err(violation) = run_seed(seed, STEPS, &trace) {
            let lines = trace.last_lines().join("\n");
            panic!(
                "{lines}\nseed {seed}: {violation}\nrepeat it with: cargo sim --seeds 1 --seed {seed} --steps {STEPS}"
            );
        }
    }
}

#[test]
fn a_seed_repeats_its_run_to_the_last_line() {
    let hash = |seed| {
        let trace = Trace::default();
        run_seed(seed, STEPS, &trace).expect("no promise is broken");
        trace.hash()
    };
    assert_eq!(hash(3), hash(3));
    assert_ne!(hash(3), hash(4));
}
