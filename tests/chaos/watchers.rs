//! Watchers that go from member to member, resume where they were, and write down every message.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use futures::channel::mpsc::{UnboundedSender, unbounded};
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::watch_create_request::FilterType;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use keystead_proto::mvccpb::Event;
use keystead_tests::Random;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::sights::Sights;
use super::watched::Stream;

const WATCHERS: usize = 9;
/// A stream is left for another after at most so long.
const MOST_STAY_MILLIS: u64 = 4000;
/// Progress is asked for so often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(150);
/// No watcher may take longer to come to the end once nothing is in its way.
const LIMIT: Duration = Duration::from_secs(90);

/// All watchers of a run.
pub struct Watchers {
    end: Arc<AtomicI64>,
    tasks: Vec<JoinHandle<Vec<Stream>>>,
}

impl Watchers {
    /// Begins with what comes after `base`.
    pub fn start(
        channels: &[Channel],
        base: i64,
        random: &mut Random,
        sights: &Arc<Sights>,
    ) -> Watchers {
        let end = Arc::new(AtomicI64::new(i64::MAX));
        let watcher = |number: usize| {
            let watcher = Watcher {
                channels: channels.to_vec(),
                asked: asked(number, base, random),
                require_leader: random.one_in(2),
                random: Random::new(random.bits()),
                end: end.clone(),
                sights: sights.clone(),
            };
            tokio::spawn(watcher.watch())
        };
        let tasks = (0..WATCHERS).map(watcher).collect();
        Watchers { end, tasks }
    }

    /// Lets them go on until each has been told of everything up to `end`; gives all streams.
    pub async fn finish(self, end: i64) -> Vec<Stream> {
        self.end.store(end, Relaxed);
        let mut all = Vec::new();
        for (number, task) in self.tasks.into_iter().enumerate() {
            let streams = timeout(LIMIT, task).await;
            let streams =
                streams.unwrap_or_else(|_| panic!("watcher {number} does not come to {end}"));
            all.extend(streams.expect("a watcher does not panic"));
        }
        all
    }
}

/// Everything, or a part of it; from the beginning or from now on.
fn asked(number: usize, base: i64, random: &mut Random) -> WatchCreateRequest {
    let filters = match number {
        0..6 => vec![],
        6 | 7 => vec![FilterType::Noput.into()],
        _ => vec![FilterType::Nodelete.into()],
    };
    let (key, range_end) = match number {
        0 | 3 | 6 => ("k/1", ""),
        // What hangs on leases.
        4 => ("l/", "l0"),
        _ => ("k/", "k0"),
    };
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        start_revision: if random.one_in(3) { 0 } else { base + 1 },
        progress_notify: random.one_in(2),
        fragment: random.one_in(2),
        prev_kv: random.one_in(2),
        filters,
        ..Default::default()
    }
}

struct Watcher {
    channels: Vec<Channel>,
    /// What the next stream asks for.
    asked: WatchCreateRequest,
    require_leader: bool,
    random: Random,
    end: Arc<AtomicI64>,
    sights: Arc<Sights>,
}

impl Watcher {
    async fn watch(mut self) -> Vec<Stream> {
        let mut streams = Vec::new();
        while self.asked.start_revision <= self.end.load(Relaxed) {
            let member = self.random.below(self.channels.len() as u64) as usize;
            let stay = Duration::from_millis(100 + self.random.below(MOST_STAY_MILLIS));
            let mut stream = Stream {
                asked: self.asked.clone(),
                messages: Vec::new(),
            };
            let channel = self.channels[member].clone();
            tokio::select! {
                ended = self.listen(channel, &mut stream.messages) => {
                    let no_leader = ended.is_err_and(|status| status.message() == "etcdserver: no leader");
                    self.sights.saw_stream_end(no_leader);
                    sleep(Duration::from_millis(20)).await;
                }
                () = sleep(stay) => {}
            }
            streams.push(stream);
        }
        streams
    }

    /// Takes down what comes until the stream ends, or until all was told up to the end.
    async fn listen(
        &mut self,
        channel: Channel,
        messages: &mut Vec<WatchResponse>,
    ) -> Result<(), Status> {
        let (requests, outgoing) = unbounded();
        ask(&requests, RequestUnion::CreateRequest(self.asked.clone()));
        let mut request = Request::new(outgoing);
        if self.require_leader {
            let value = "true".parse().expect("it is ASCII");
            request.metadata_mut().insert("hasleader", value);
        }
        let mut answers = WatchClient::new(channel).watch(request).await?.into_inner();
        let mut asking = Instant::now() + PROGRESS_INTERVAL;
        while self.asked.start_revision <= self.end.load(Relaxed) {
            let message = tokio::select! {
                message = answers.message() => message?,
                () = sleep_until(asking) => {
                    asking = Instant::now() + PROGRESS_INTERVAL;
                    ask(&requests, RequestUnion::ProgressRequest(WatchProgressRequest {}));
                    continue;
                }
            };
            let Some(message) = message else {
                return Ok(());
            };
            self.follow(&message);
            messages.push(message);
        }
        Ok(())
    }

    /// The next stream begins behind what this one has told.
    fn follow(&mut self, message: &WatchResponse) {
        let header = message.header.unwrap_or_default().revision;
        let told = match message.events.last() {
            // The rest of the revision may be on its way.
            Some(_) if message.fragment => return,
            Some(event) => revision(event),
            // A watcher of "now" is told by the creation where that is; another is told nothing by it.
            None if message.created && self.asked.start_revision > 0 => return,
            None => header,
        };
        self.asked.start_revision = self.asked.start_revision.max(told + 1);
    }
}

fn ask(requests: &UnboundedSender<WatchRequest>, request: RequestUnion) {
    // A stream that has ended is seen by the next read.
    let _ = requests.unbounded_send(WatchRequest {
        request_union: Some(request),
    });
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Everything that happened after `base` up to `end`, as a member tells it to a watch of all keys.
pub async fn history(channel: Channel, base: i64, end: i64) -> Vec<Event> {
    let (requests, outgoing) = unbounded();
    let everything = WatchCreateRequest {
        key: "\0".into(),
        range_end: "\0".into(),
        start_revision: base + 1,
        ..Default::default()
    };
    ask(&requests, RequestUnion::CreateRequest(everything));
    let reading = async {
        let mut answers = WatchClient::new(channel)
            .watch(outgoing)
            .await?
            .into_inner();
        let mut events: Vec<Event> = Vec::new();
        while events.last().map_or(base, revision) < end {
            match answers.message().await? {
                Some(message) if !message.canceled => events.extend(message.events),
                other => panic!("the watch of the whole history ended: {other:?}"),
            }
        }
        events.retain(|event| revision(event) <= end);
        Ok::<_, Status>(events)
    };
    let read = timeout(LIMIT, reading).await;
    read.expect("a member tells its history")
        .expect("a member that runs tells its history")
}
