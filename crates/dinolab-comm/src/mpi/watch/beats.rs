//! Signs of life, between rank 0 and each other process.

use std::mem;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use ::mpi::request::{Request, StaticScope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, Destination as _, Source as _};

use super::Shared;
use crate::Error;
use crate::mpi::{count, end, index};

/// Time between two looks for messages.
const POLL: Duration = Duration::from_millis(50);

// Messages are static, because one to a lost process is never done with its buffer.
/// A sign of life.
static BEAT: u8 = 0;
/// The last message of a process that leaves in order.
static FAREWELL: u8 = 1;
/// A process was lost: the receiver has to end.
static END: u8 = 2;

/// Sends beats to some processes and counts what they send.
pub(super) struct Beats {
    comm: SimpleCommunicator,
    peers: Vec<Peer>,
    interval: Duration,
}

struct Peer {
    rank: usize,
    sending: Vec<Request<'static, u8>>,
    said_farewell: bool,
    heard_farewell: bool,
}

impl Beats {
    pub(super) fn new(comm: SimpleCommunicator, ranks: &[usize], interval: Duration) -> Beats {
        let peers = ranks
            .iter()
            .map(|&rank| Peer {
                rank,
                sending: Vec::new(),
                said_farewell: false,
                heard_farewell: false,
            })
            .collect();
        Beats {
            comm,
            peers,
            interval,
        }
    }

    /// Beats until this process and all peers have said farewell.
    pub(super) fn run(mut self, shared: &Shared) {
        let mut next = Instant::now();
        let mut telling = false;
        loop {
            self.receive(shared);
            if let Some(lost) = shared.lost() {
                if !mem::replace(&mut telling, true) {
                    self.tell_all_but(lost);
                }
                let told = self
                    .peers
                    .iter_mut()
                    .filter(|peer| peer.rank != lost)
                    .all(Peer::is_free);
                shared.told.store(told, Ordering::Release);
            } else if shared.leaving.load(Ordering::Acquire) {
                if self.farewell() {
                    return;
                }
            } else if Instant::now() >= next {
                self.beat();
                next = Instant::now() + self.interval;
            }
            // `Watch::leave` ends the pause.
            thread::park_timeout(POLL);
        }
    }

    fn receive(&mut self, shared: &Shared) {
        while let Some((message, status)) = self.comm.any_process().immediate_matched_probe() {
            let (word, _) = message.matched_receive::<u8>();
            if word == END {
                end::end_self(Error::LOST);
            }
            let sender = index(status.source_rank());
            let at = self
                .peers
                .iter()
                .position(|peer| peer.rank == sender)
                .expect("only peers send");
            self.peers[at].heard_farewell |= word == FAREWELL;
            shared.heard[at].fetch_add(1, Ordering::Release);
        }
    }

    /// A beat to each peer that took the one before, so that they do not pile up.
    fn beat(&mut self) {
        for peer in &mut self.peers {
            if peer.is_free() {
                peer.send(&self.comm, &BEAT);
            }
        }
    }

    fn tell_all_but(&mut self, lost: usize) {
        for peer in self.peers.iter_mut().filter(|peer| peer.rank != lost) {
            peer.send(&self.comm, &END);
        }
    }

    /// Whether nothing is left to send or to receive.
    fn farewell(&mut self) -> bool {
        for peer in self.peers.iter_mut().filter(|peer| !peer.said_farewell) {
            peer.send(&self.comm, &FAREWELL);
            peer.said_farewell = true;
        }
        self.peers
            .iter_mut()
            .all(|peer| peer.heard_farewell && peer.is_free())
    }
}

impl Peer {
    fn send(&mut self, comm: &SimpleCommunicator, word: &'static u8) {
        self.sending.push(
            comm.process_at_rank(count(self.rank))
                .immediate_send(StaticScope, word),
        );
    }

    /// Whether the peer took, or MPI stored, all that was sent.
    fn is_free(&mut self) -> bool {
        self.sending = mem::take(&mut self.sending)
            .into_iter()
            .filter_map(|request| request.test().err())
            .collect();
        self.sending.is_empty()
    }
}
