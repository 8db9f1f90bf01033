//! `World`: one run: the broker, its clients and the auditor, from the first declaration to the last message.
//!
//! ```text
//!   Founding ─▶ Working ── clients publish, consume, declare; crashes and restarts ──▶ Winding down ─▶ quiet
//!                                                                                                        │
//!   end ◀─ every queue was emptied: nothing lost ◀─ Emptying ◀─ a last death and restart, or none ◀──────┘
//!                                                     └── once more after a kill: what was acked stays away
//! ```

use super::auditor::{Auditor, Tally};
use super::broker::{Broker, CORES, Death};
use super::client::{Client, Role};
use super::quiet::check_quiet;
use super::scene::{Scene, Theme};
use super::scheduler::{CoreHappening, Happening, Scheduler};
use super::session::Outside;
use super::trace::Trace;
use super::trouble::{Trouble, Troubles};
use crate::config::Durability;
use crate::model::Moment;

/// Happenings after which a run that should come to rest is stuck.
const PATIENCE: u64 = 400_000;
/// Longest orderly stop: clients answer within milliseconds, so nothing may have to wait for a handshake's limit.
const DRAIN_MILLISECONDS_MAX: u64 = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Founding,
    Working,
    WindingDown,
    /// The queues are being emptied; how many times they were before.
    Emptying(u32),
    Finished,
}

/// One run.
pub struct World {
    scheduler: Scheduler,
    broker: Broker,
    clients: Vec<Client>,
    auditor: Auditor,
    scene: Scene,
    durability: Durability,
    phase: Phase,
    is_draining: bool,
    drain_began: Moment,
    happened: u64,
    /// Happenings until the end of work.
    work: u64,
    /// When the phase began, counted in happenings.
    phase_began: u64,
    troubles: Troubles,
}

impl World {
    /// The run of `seed`, whose clients work for `steps` happenings; its trace goes to `trace`.
    pub fn new(seed: u64, steps: u64, trace: Trace) -> Self {
        let mut scheduler = Scheduler::new(seed, trace);
        let durability = match scheduler.dice.chance(80) {
            true => Durability::Fsync,
            false => Durability::Write,
        };
        let scene = Scene::choose(&mut scheduler.dice);
        scheduler.say(format_args!("{scene:?}"));
        let broker = Broker::new(durability, &scene, &mut scheduler);
        Self {
            troubles: Troubles::choose(steps, durability, &mut scheduler.dice),
            broker,
            clients: Vec::new(),
            auditor: Auditor::new(scheduler.trace.clone()),
            scene,
            durability,
            phase: Phase::Founding,
            is_draining: false,
            drain_began: Moment::default(),
            happened: 0,
            work: steps,
            phase_began: 0,
            scheduler,
        }
    }

    /// Runs to the end. Returns what was counted.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn run(mut self) -> Result<Tally, String> {
        self.restart();
        self.add_client(vec![Role::Found], 0);
        while self.phase != Phase::Finished {
            let happening = self.scheduler.schedule.take_next();
            self.auditor.set_time(self.scheduler.now());
            self.happen(happening.expect("the timers go on"));
            self.happened += 1;
            self.go_on();
            if let Some(violation) = self.auditor.violation() {
                return Err(violation.to_owned());
            }
        }
        Ok(self.auditor.tally)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Core { life, core, what } => self.happen_at(life, core, what),
            Happening::Reach(id) => {
                let Some(link) = self.scheduler.network.link(id) else {
                    return;
                };
                link.is_reach_arranged = false;
                let core = link.core;
                if let Some(core) = self.broker.core(self.broker.life(), core) {
                    core.reach(id, &mut self.scheduler);
                }
            }
            Happening::Read(id) => self.let_client_read(id),
            Happening::Turn { client, session } => {
                let (clients, mut outside) = self.outside(client);
                clients[client].act(session, &mut outside);
                self.reconnect(client);
            }
            Happening::Connect { client } => self.connect(client),
            Happening::Restart => self.restart(),
        }
    }

    fn happen_at(&mut self, life: u32, core: usize, what: CoreHappening) {
        if what == CoreHappening::Tick {
            return self.tick(life, core);
        }
        if let CoreHappening::Mail { from } = what {
            if life == self.broker.life() && self.broker.is_up() {
                self.broker.carry_mail(from, core, &mut self.scheduler);
            }
            return;
        }
        let Some(core) = self.broker.core(life, core) else {
            return;
        };
        match what {
            CoreHappening::Synced => core.end_sync(&mut self.scheduler),
            CoreHappening::Prepared => core.end_preparing(&mut self.scheduler),
            CoreHappening::Timer => core.take_time(&mut self.scheduler),
            CoreHappening::Tick | CoreHappening::Mail { .. } => {}
        }
    }

    fn tick(&mut self, life: u32, core: usize) {
        if self.broker.core(life, core).is_none() {
            return;
        }
        if let Err(error) = self.broker.tick(core, &mut self.scheduler) {
            self.scheduler
                .say(format_args!("core {core} fails, and the broker with it: {error}"));
            return self.die(Death::PowerLoss);
        }
        if let Err(fault) = self.broker.check_bounds(core) {
            self.auditor.accuse(fault);
        }
    }

    fn let_client_read(&mut self, id: u32) {
        let Scheduler { network, dice, .. } = &mut self.scheduler;
        let Some(link) = network.link(id) else { return };
        link.is_read_arranged = false;
        if !link.has_client() {
            let (core, frees_writer) = (link.core, link.frees_writer());
            if link.is_ended_for_client() {
                network.forget(id);
            } else if frees_writer && let Some(core) = self.broker.core(self.broker.life(), core) {
                core.make_writable(id, &mut self.scheduler);
            }
            return;
        }
        let (client, core) = (link.client, link.core);
        if !self.is_draining && !self.clients[client].is_listening() {
            return self.scheduler.arrange_late_read(id);
        }
        let (bytes, is_relieved) = link.read(|count| dice.cut(count));
        if is_relieved && let Some(core) = self.broker.core(self.broker.life(), core) {
            core.make_writable(id, &mut self.scheduler);
        }
        if !bytes.is_empty() {
            let count = bytes.len();
            self.scheduler
                .say(format_args!("client {client} reads {count} bytes on link {id}"));
            let (clients, mut outside) = self.outside(client);
            clients[client].read(&bytes, &mut outside);
        }
        let is_ended = self
            .scheduler
            .network
            .link(id)
            .is_some_and(|link| link.is_ended_for_client());
        if is_ended {
            let (clients, mut outside) = self.outside(client);
            clients[client].meet_end(&mut outside);
            self.scheduler.network.forget(id);
            self.reconnect(client);
        } else {
            self.scheduler.arrange_read(id);
        }
    }

    // ---- clients

    /// The clients, and what is around this one.
    fn outside(&mut self, client: usize) -> (&mut [Client], Outside<'_>) {
        let is_winding_down = self.is_winding_down(client);
        let may_vanish = self.may_vanish(client);
        let outside = Outside {
            auditor: &mut self.auditor,
            scheduler: &mut self.scheduler,
            is_winding_down,
            is_draining: self.is_draining,
            may_vanish,
        };
        (&mut self.clients, outside)
    }

    /// The founder and whoever empties the queues go as soon as they are done; the sweeper when all others have gone, also from
    /// the broker's sight, and no dead letter will come.
    fn is_winding_down(&self, client: usize) -> bool {
        let is_last = || self.scheduler.network.len() == 1 && !self.broker.has_dying();
        self.phase != Phase::Working && (!self.clients[client].plays(Role::Sweep) || is_last())
    }

    fn may_vanish(&mut self, client: usize) -> bool {
        if self.phase != Phase::Working || !self.scene.has(Theme::Vanishing) {
            return false;
        }
        let link = self.clients[client].link();
        let Some(link) = link.and_then(|link| self.scheduler.network.link(link)) else {
            return false;
        };
        let (token, core) = (link.token, link.core);
        let life = self.broker.life();
        self.broker.core(life, core).is_some_and(|core| core.holds(token))
    }

    fn add_client(&mut self, roles: Vec<Role>, break_percent: u64) {
        let number = self.clients.len();
        self.scheduler.say(format_args!("client {number}: {roles:?}"));
        self.clients.push(Client::new(number, roles, break_percent));
        self.scheduler.arrange_connect(number);
    }

    /// A client that has lost its connection while there is work connects again; the founder's is done.
    fn reconnect(&mut self, client: usize) {
        if self.phase == Phase::Working && client > 0 && !self.clients[client].is_connected() {
            self.scheduler.arrange_connect(client);
        }
    }

    fn connect(&mut self, client: usize) {
        let is_its_time = match self.phase {
            Phase::Founding => true,
            Phase::Working => client > 0,
            Phase::Emptying(_) => client + 1 == self.clients.len(),
            Phase::WindingDown => self.clients[client].plays(Role::Sweep),
            Phase::Finished => false,
        };
        if self.clients[client].is_connected() || !is_its_time {
            return;
        }
        if !self.broker.is_up() || self.is_draining {
            return self.scheduler.arrange_connect(client);
        }
        // Who empties the queues finds all that has died where it went.
        let is_at_rest = self.broker.is_idle() && !self.broker.has_dying();
        if matches!(self.phase, Phase::Emptying(_)) && !is_at_rest {
            return self.scheduler.arrange_connect(client);
        }
        let core = self.scheduler.dice.below(CORES as u64) as usize;
        let room = *self.scheduler.dice.pick(&[1_000, 20_000, 200_000]);
        let link = self.scheduler.network.open(client, core, room);
        self.scheduler.say(format_args!(
            "client {client} connects to core {core} by link {link}"
        ));
        self.clients[client].connect(link, &mut self.scheduler);
        if let Some(core) = self.broker.core(self.broker.life(), core) {
            core.accept(link, &mut self.scheduler);
        }
    }

    // ---- lives of the broker

    fn restart(&mut self) {
        match self.broker.start(&mut self.scheduler) {
            Ok(messages) => {
                let life = self.broker.life();
                self.auditor.begin_life(life);
                self.scheduler
                    .say(format_args!("life {life} begins with {messages} messages"));
            }
            Err(error) => self.auditor.accuse(format!("the broker does not start: {error}")),
        }
    }

    fn die(&mut self, death: Death) {
        // In this mode confirms promise nothing about power.
        let death = match (death, self.durability) {
            (Death::PowerLoss, Durability::Write) => Death::Kill,
            (death, _) => death,
        };
        self.scheduler.say(format_args!("the broker dies: {death:?}"));
        let keeps_written = death != Death::PowerLoss && !self.broker.has_failed_sync();
        if let Err(error) = self.broker.die(death, &mut self.scheduler) {
            self.scheduler.say(format_args!("the stop is none: {error}"));
            return self.die(Death::PowerLoss);
        }
        self.is_draining = false;
        self.auditor.tally.crashes += u64::from(death != Death::Stop);
        for (_, link) in self.scheduler.network.cut_all() {
            self.clients[link.client].break_off(&mut self.auditor);
            self.reconnect(link.client);
        }
        self.auditor.end_life(keeps_written);
        self.scheduler.arrange_restart();
    }

    fn begin_stop(&mut self) {
        self.scheduler.say(format_args!("the broker shuts down"));
        self.is_draining = true;
        self.drain_began = self.scheduler.now();
        self.auditor.begin_drain();
        self.broker.drain(&mut self.scheduler);
    }

    fn meet_trouble(&mut self) {
        if !self.broker.is_up() || self.is_draining {
            return;
        }
        let (happened, confirms) = (self.happened - self.phase_began, self.auditor.durable_confirms);
        match self.troubles.next(happened, confirms) {
            Some(Trouble::Death(death) | Trouble::DeathAtConfirm(death)) => self.die(death),
            Some(Trouble::Stop) => self.begin_stop(),
            Some(Trouble::BrokenDisk(core)) => self.broker.break_disk(core, &mut self.scheduler),
            None => {}
        }
    }

    // ---- phases

    /// Goes on to the next phase when this one has come to its end.
    fn go_on(&mut self) {
        if self.is_draining && self.broker.is_up() {
            self.go_on_draining();
        }
        match self.phase {
            Phase::Founding if self.is_quiet() && self.clients[0].has_been_connected() => self.begin_work(),
            Phase::Working => {
                self.meet_trouble();
                if self.happened - self.phase_began > self.work && self.broker.is_up() && !self.is_draining {
                    self.broker.mend_disks();
                    self.wind_down();
                }
            }
            Phase::WindingDown if self.is_quiet() => {
                self.check_quiet();
                self.die_last();
                self.enter(Phase::Emptying(0));
                self.add_client(vec![Role::Drain], 0);
            }
            Phase::Emptying(times)
                if self.is_quiet()
                    && self
                        .clients
                        .last()
                        .is_some_and(|client| client.has_been_connected()) =>
            {
                self.check_quiet();
                self.auditor.check_nothing_lost();
                self.empty_again(times);
            }
            Phase::Founding | Phase::WindingDown | Phase::Emptying(_) => self.check_patience(),
            Phase::Finished => {}
        }
    }

    fn go_on_draining(&mut self) {
        if self.broker.is_drained() {
            return self.die(Death::Stop);
        }
        let milliseconds = self.scheduler.now().milliseconds_since(self.drain_began);
        if milliseconds > DRAIN_MILLISECONDS_MAX {
            let clients = self.describe_clients();
            self.auditor.accuse(format!(
                "the broker has not drained after {milliseconds} ms: {clients}"
            ));
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.scheduler.say(format_args!("{phase:?}"));
        self.phase = phase;
        self.phase_began = self.happened;
    }

    fn begin_work(&mut self) {
        self.enter(Phase::Working);
        for roles in self.scene.cast(&mut self.scheduler.dice) {
            let break_percent = self.scheduler.dice.below(3);
            self.add_client(roles, break_percent);
        }
    }

    fn wind_down(&mut self) {
        self.enter(Phase::WindingDown);
        if self.scene.has(Theme::ShortMemory) {
            self.add_client(vec![Role::Sweep], 0);
        }
    }

    fn die_last(&mut self) {
        match self.scheduler.dice.below(5) {
            0 => {}
            1 => self.begin_stop(),
            2 => self.die(Death::Kill),
            _ => self.die(Death::PowerLoss),
        }
    }

    fn empty_again(&mut self, times: u32) {
        if times > 0 {
            return self.enter(Phase::Finished);
        }
        self.die(Death::Kill);
        self.enter(Phase::Emptying(1));
        self.add_client(vec![Role::Drain], 0);
    }

    /// Whether nobody is connected and nothing is under way.
    fn is_quiet(&self) -> bool {
        self.broker.is_up()
            && !self.is_draining
            && self.clients.iter().all(|client| !client.is_connected())
            && self.scheduler.network.is_empty()
            && self.broker.is_idle()
    }

    fn check_patience(&mut self) {
        if self.happened - self.phase_began > PATIENCE {
            let clients = self.describe_clients();
            let phase = self.phase;
            let cores = self.broker.cores().iter();
            let memory: Vec<u64> = cores.map(|core| core.shard.queued_bytes()).collect();
            self.auditor.accuse(format!(
                "{phase:?} does not come to an end, message memory of the cores {memory:?}: {clients}"
            ));
        }
    }

    fn describe_clients(&self) -> String {
        let connected = self.clients.iter().filter(|client| client.is_connected());
        let described: Vec<String> = connected.map(Client::describe).collect();
        described.join(" | ")
    }

    fn check_quiet(&mut self) {
        if let Err(fault) = check_quiet(&self.broker) {
            self.auditor.accuse(fault);
        }
    }
}
