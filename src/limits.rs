//! Limits: every bound of the server, with the reason for its size. A bound that a deployer may change
//! has its range here and its default in `config`; nothing else in the project invents a number.

use std::time::Duration;

/// Connections that the kernel completes before we accept them. A herd of reconnecting browsers arrives
/// within a second; the kernel cuts this to `net.core.somaxconn` (4096 on current Linux).
pub const LISTEN_BACKLOG: i32 = 4096;

/// Connections accepted in one turn, so that a herd cannot keep the tick waiting: an accept costs about
/// 10 µs, hence 64 of them less than one millisecond.
pub const ACCEPTS_PER_TURN: usize = 64;

/// How soon accepting is tried again after the process or the machine ran out of descriptors, when none
/// of our own connections closed in the meantime.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// Reads from clients in one turn; the rest are continued after the next poll.
pub const READS_PER_TURN: usize = 256;

/// Writes to clients in one turn, the slice of a fan-out: at 5 to 10 µs each, some milliseconds between two
/// looks at the sockets.
pub const WRITES_PER_TURN: usize = 512;

/// Bytes read from one socket at a time; one buffer of this size is shared by all of them.
pub const READ_BYTES: usize = 64 * 1024;

/// Subscribers of one namespace that are visited before the next one has its turn: a namespace with ten
/// thousand of them delays the others by this many writes, not by ten thousand.
pub const WRITES_PER_NAMESPACE: usize = 64;

/// Subscribers of a namespace from which on its passes are paced.
pub const PACED_SUBSCRIBERS_MIN: usize = 32;

/// The pause between the beginnings of two passes, for each subscriber: some three times what a pass takes, so
/// that a busy stream fills a third of a core at most, and its messages share writes.
pub const PASS_PAUSE_PER_SUBSCRIBER: Duration = Duration::from_micros(20);

/// The longest such pause. A message waits no longer than that.
pub const PASS_PAUSE_MAX: Duration = Duration::from_millis(2);

/// Bytes of frames that may wait for a paced pass.
pub const PACED_BYTES_MAX: usize = WRITE_BYTES / 2;

/// Reads from the broker in one turn, so that a flood of messages leaves room for clients.
pub const SOURCE_READS_PER_TURN: usize = 4;

/// The longest request head, request line included. Browsers stay below 8 KiB unless a site's cookies
/// are large; nginx allows 4 × 8 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Header lines in one request; httparse wants the array up front, on the stack.
pub const HEADERS_MAX: usize = 96;

/// Bytes that are read from a subscriber, and discarded, before it is left alone for [`SUBSCRIBER_PAUSE`]. It has
/// nothing to say; another request, or what is left of a body, fits into it as a rule. Reading all that somebody
/// sends would cost processor time without bound.
pub const SUBSCRIBER_BYTES_MAX: u16 = 8 * 1024;

/// How long a subscriber is not read from that has sent so much within this time.
pub const SUBSCRIBER_PAUSE: Duration = Duration::from_secs(1);

/// How many such pauses in a row a subscriber is given before it is closed: the longest body of a request is then
/// read to its end.
pub const SUBSCRIBER_PAUSES_MAX: u8 = 8;

/// The longest request body that is read and discarded, by endpoints that need none.
pub const BODY_BYTES_MAX: u64 = 64 * 1024;

/// The longest body of a publication: a large tweet has 10 KiB, and what is longer than this would push out of
/// the log what everybody else waits for.
pub const PUBLISH_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of one message on all channels it is published to together: half of what may wait to be sent to a
/// broker, so that it is sent on all of them or on none.
pub const PUBLISH_BYTES_MAX: usize = COMMAND_BYTES_MAX / 2;

/// Bytes held of bodies whose senders have not shown a key yet: eight of the longest.
pub const UNPROVEN_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of such a body that do not count: a quarter of what is held of any request's head.
pub const UNPROVEN_BYTES_FREE: usize = 4 * 1024;

/// How long the beginning of a stream waits for the source to answer for its channels. A browser shows a page that
/// waits no longer than this as quick, and a source that takes longer is in trouble.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Channels that the source is asked for at a time. Each is some 600 bytes here and a subscription there, and lasts
/// for `REPLAY_SEC` after whoever made it up has left.
pub const CHANNELS_MAX: usize = 100_000;

/// The longest line that gives a chunk's size, extensions included.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// The longest segment of a namespace, decoded.
pub const SEGMENT_BYTES_MAX: usize = 200;

/// Namespaces that one connection may carry. A browser has six connections to a host, and a page some emoji.
pub const NAMESPACES_MAX: usize = 32;

/// Patterns of channels that can be configured: each name that is asked for is compared with all of them.
pub const CHANNEL_PATTERNS_MAX: usize = 64;

/// The longest time that can be configured for which a channel is kept without subscribers: an hour. Its
/// messages take their part of the log meanwhile, and Redis sends them to us.
pub const REPLAY_SEC_MAX: u64 = 3_600;

/// The most channels that can be configured to be counted in reports: some hundred bytes each.
pub const CHANNEL_STATS_MAX: usize = 10_000;

/// Bytes of a request target and of a user agent that are kept to be shown on status pages.
pub const SHOWN_BYTES_MAX: usize = 256;

/// The time a client has for one whole request head, and a kept-alive connection for its next request.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection that we have ended waits for the client's end, so that the last reply is not
/// destroyed by a reset (RFC 9112 §9.6).
pub const LINGER_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client that is being closed may take to accept its last bytes, and how much longer than its
/// streams the whole process may take to end.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How much earlier than planned a connection may be looked at, so that looks close together share one
/// wake-up.
pub const TIMER_SLACK: Duration = Duration::from_millis(250);

/// The same for the end of a stream's lifetime, which is promised to be at 80 % of it at the earliest.
pub const LIFETIME_SLACK: Duration = Duration::from_millis(15);

/// How long a subscriber may take nothing at all while there is something for it. A phone that sleeps
/// for half a minute is served on waking; waiting costs us a cursor.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `TCP_USER_TIMEOUT`: how long the kernel waits for a peer to take bytes before it reports it dead. Linux
/// counts peers that are alive and do not read as well, so this is more than `PATIENCE`: those are `slow`,
/// and only who had nothing to take is a `timeout`.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(75);

/// `TCP_NOTSENT_LOWAT`: unsent bytes the kernel holds for one client before it calls it unwritable. What
/// is not in the kernel can still be conflated.
pub const NOTSENT_BYTES: u32 = 16 * 1024;

/// Bytes of events given to each of many clients in one write.
pub const WRITE_BYTES: usize = 64 * 1024;

/// Bytes of events given to one client that is written to by itself: it has a batch of its own as a rule, and what it
/// does not take of it is encoded again.
pub const ALONE_BYTES: usize = 16 * 1024;

/// How long frames are kept for a namespace that everybody was told to come back to. Browsers come back
/// within the retry; those in background tabs some seconds later.
pub const LINGER: Duration = Duration::from_secs(30);

/// Cleanups of one address in one window, relayed ones not counted: a page that is reloaded as fast as a
/// person can asks three times a second, and there may be some behind one address.
pub const CLEANUPS_PER_WINDOW: u32 = 60;

/// The window in which cleanups are counted.
pub const CLEANUP_WINDOW: Duration = Duration::from_secs(10);

/// Addresses whose cleanups are counted in one window; further ones wait for the next.
pub const CLEANUP_ADDRESSES_MAX: usize = 8 * 1024;

/// Streams that one cleanup closes at most; a page has a handful.
pub const CLEANUP_CLOSES_MAX: usize = 128;

/// The longest token. A UUID has 36 bytes.
pub const TOKEN_BYTES_MAX: usize = 64;

/// The longest secret that can be configured: keys of any kind fit, and a head has room for it many times.
pub const SECRET_BYTES_MAX: usize = 256;

/// How soon a client may come again for which there was no room, at least.
pub const SHED_RETRY_MIN: Duration = Duration::from_secs(5);

/// The same, at most: spread, so that a herd does not come back as one.
pub const SHED_RETRY_MAX: Duration = Duration::from_secs(30);

/// `retry:` of clients that are sent away because the server stops, at least and at most.
pub const DRAIN_RETRY_MIN: Duration = Duration::from_secs(1);

/// See [`DRAIN_RETRY_MIN`].
pub const DRAIN_RETRY_MAX: Duration = Duration::from_secs(5);

/// The beat at which slices of clients are sent away.
pub const DRAIN_BEAT: Duration = Duration::from_millis(20);

/// Clients that are sent away at one beat at least: a small server need not take long to stop.
pub const DRAIN_SLICE_MIN: usize = 20;

/// Descriptors that are left to other things than clients and listeners: the poll and what wakes it, signals,
/// standard streams, the broker's two sockets, Graphite's, a resolver at work, a look at the process. These are
/// some 17; without them the broker could not come back.
pub const DESCRIPTORS_RESERVED: usize = 24;

/// Accepted sockets that are kept for the admin's door, where there is one: a person with a browser, which opens
/// six connections to a place, and two probes. A small table of sockets is divided in halves instead.
pub const ADMIN_SOCKETS_RESERVED: usize = 8;

/// Addresses to listen on that can be configured, for clients and again for the admin pages: machines have few,
/// each costs a descriptor, and the poll has a bounded number of names for them.
pub const LISTEN_ADDRESSES_MAX: usize = 16;

/// Hops of `X-Forwarded-For` that can be trusted at most.
pub const TRUSTED_PROXIES_MAX: usize = 16;

/// The longest lifetime of a stream that can be configured: a day.
pub const LIFETIME_SEC_MAX: u64 = 86_400;

/// The longest drain that can be configured.
pub const DRAIN_SEC_MAX: u64 = 600;

/// The beat of the rollup: 60 Hz, rounded up to a millisecond, as the API has always said.
pub const TICK: Duration = Duration::from_millis(17);

/// The longest id of a score update that is counted. The longest emoji sequence is 59 bytes as a unified ID.
pub const SCORE_ID_BYTES_MAX: usize = 128;

/// One segment of the log at most, in which messages lie back to back. A longer message has a segment of its own.
pub const LOG_SEGMENT_BYTES: usize = 64 * 1024;

/// One segment takes this part of the log at most, one over so many: whole segments are dropped, and what is left
/// empty in the newest counts as well.
pub const LOG_SEGMENT_PART: usize = 16;

/// What one message costs the log beside its bytes: its entry (32) and its place in two namespaces' lists.
pub const LOG_ENTRY_BYTES: usize = 48;

/// The ids of scores take this part of the log at most, one over so many: the 850 emoji that are counted take 100 KB,
/// which must fit into the smallest log, and whoever makes ids up must not push out everything else.
pub const LOG_SYMBOLS_PART: usize = 2;

/// The batches that are kept take this part of the log at most, one over so many.
pub const LOG_BATCHES_PART: usize = 8;

/// One write takes this part of the log at most, one over so many: eight batches must fit into theirs, in buffers
/// that grow by doubling.
pub const LOG_WRITE_PART: usize = 64;

/// The shortest message that is not copied into a batch, but written as it lies in the log. Copying less costs less
/// than the further system call.
pub const SLICED_BYTES_MIN: usize = 4 * 1024;

/// What an event has beside its payload, as a rule: field names, line ends, and its part of a chunk.
pub const EVENT_BYTES: usize = 16;

/// Messages are taken from the source until this part of the log, one over so many, has not been offered
/// to everybody. What is then read at once (`READ_BYTES`, which grows little on its way into the log)
/// still has room.
pub const LOG_UNFLUSHED_PART: u64 = 4;

/// How long messages are kept waiting in the source's socket for that. Whoever cannot take a quarter of
/// the log in this time is slow, and must not be everybody's measure.
pub const SOURCE_HOLD_MAX: Duration = Duration::from_millis(250);

/// Bytes of events whose encoding costs as much of a turn's budget as one write: some 6 µs.
pub const ENCODED_BYTES_PER_WRITE: usize = 10 * 1024;

/// How long the end waits for our row to be removed from Redis when nothing else is left to do.
pub const ROW_REMOVAL_DEADLINE: Duration = Duration::from_secs(1);

/// Bytes of the status that is written to Redis; connections beyond are left out, and the total beside them
/// stays true. It is a small part of what may wait to be sent, so that the rest is left to relays.
pub const STATUS_BYTES_MAX: usize = 512 * 1024;

/// What a connection takes in that status at most as a rule: a detail stream of a client with an IPv6 address
/// and a browser's long name. Others take some 250 bytes, and who wants to can take more than a thousand.
pub const STATUS_ROW_BYTES: usize = 400;

/// The smallest log that can be configured: four segments.
pub const LOG_BYTES_FLOOR: usize = 4 * LOG_SEGMENT_BYTES;

/// The largest log that can be configured; frames are addressed with 32 bits within a segment and the
/// whole must stay far from that.
pub const LOG_BYTES_CEILING: usize = 1 << 30;

/// How often the status is written to Redis. The admin service drops rows older than 50 s.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// How often figures are sent to Graphite. Carbon's default keeps one for each ten seconds or minute.
pub const GRAPHITE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes that the kernel may hold for a Graphite daemon that does not take them: a few reports, of 1 to 4 KB
/// each. What the kernel holds cannot be dropped any more, and comes too late when the daemon goes on.
pub const GRAPHITE_KERNEL_BYTES_MAX: usize = 8 * 1024;

/// Bytes of one datagram: what passes every network in one piece.
pub const DATAGRAM_BYTES_MAX: usize = 1400;

/// How long datagrams go to an address before its name is resolved again.
pub const DATAGRAM_TARGET_AGE_MAX: Duration = Duration::from_secs(600);

/// How long the broker may take to answer what somebody waits for.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// How long nothing is asked again that the broker refused to answer: rights change by a person's hand.
pub const REFUSAL_RETRY: Duration = Duration::from_secs(60);

/// How long nothing is asked again that the broker did not answer because it was silent or away.
pub const ANSWER_RETRY: Duration = Duration::from_secs(5);

/// Nodes that the cluster view shows at most.
pub const NODES_MAX: usize = 1_000;

/// Bytes of the cluster view that lists of connections may fill: some fifteen thousand of them.
pub const CLUSTER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long what the broker answered about all nodes is given out again: they report no more often.
pub const CLUSTER_AGE_MAX: Duration = REPORT_INTERVAL;

/// How long the scores that the live page begins with are given out again.
pub const SCORES_AGE_MAX: Duration = Duration::from_secs(1);

/// Rows of nodes that have not reported for so long are left out, as the admin service does it.
pub const NODE_SILENCE_MAX: Duration = Duration::from_secs(50);

/// Connections listed in one report that can be configured: as many as fit into [`STATUS_BYTES_MAX`] as a
/// rule ([`STATUS_ROW_BYTES`]), beside some kilobytes of figures.
pub const STATUS_ROWS_MAX: usize = 1_250;

/// The largest body that is copied for each client that asks for it.
pub const COPIED_BODY_BYTES_MAX: usize = 4 * 1024;

/// How long a document about this node is given out again, as long as nobody has come or gone.
pub const DOCUMENT_AGE_MAX: Duration = Duration::from_millis(100);

/// Different versions of such a document that clients may be holding; whoever asks for one more gets the
/// newest of them.
pub const DOCUMENT_VERSIONS_MAX: usize = 8;

/// One reply of a broker, buffered until it is whole. The largest message that the default log takes is
/// 2 MiB; beyond this bound the session is ended, because the stream cannot be followed any more.
pub const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Commands waiting to be sent to a broker; more are dropped. Two of the longest publications, which is what
/// takes most of it, have room at a time.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Time for resolving a broker's name. The system asks its second name server after five seconds.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);

/// Time for connecting to a broker, and for its answers to our first commands.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// `TCP_USER_TIMEOUT` of connections that we make: how long the kernel waits for the other side to take bytes
/// before it reports it dead; by itself it tries for a quarter of an hour. Three reports to Graphite; a
/// broker that is silent is given up earlier, by its answer to PING.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence on the link to a broker before it is asked for a sign of life.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long the broker may take to answer that.
pub const PING_DEADLINE: Duration = Duration::from_secs(5);

/// One frame of AMQP, its head and end included: what RabbitMQ proposes. A message's body takes several.
pub const AMQP_FRAME_BYTES_MAX: usize = 128 * 1024;

/// The least that a broker may propose instead (AMQP's frame-min-size).
pub const AMQP_FRAME_BYTES_MIN: usize = 4 * 1024;

/// The longest body of one message that is taken from AMQP. A longer one is skipped as it arrives: what is sent
/// to browsers is far shorter, and a message is held until it is whole.
pub const AMQP_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// How often both sides of an AMQP connection show that they are there; twice that without a word, and it is
/// lost. The same as for Redis, more or less.
pub const AMQP_HEARTBEAT_SEC: u16 = 10;

/// Binds of channels are put into words until so many bytes wait to be sent: ten thousand of them are a megabyte.
pub const AMQP_BINDS_BYTES: usize = 64 * 1024;

/// Bytes that may wait for an AMQP broker which does not take them, as for Redis. More messages are not taken.
pub const AMQP_UNSENT_BYTES_MAX: usize = COMMAND_BYTES_MAX;

/// Messages that an AMQP broker has not confirmed yet. Each is two numbers for us; more are not taken.
pub const AMQP_UNCONFIRMED_MAX: usize = 64 * 1024;

/// The longest name of anything in AMQP: its short strings have one byte for their length.
pub const AMQP_NAME_BYTES_MAX: usize = 255;

/// The shortest pause before a reconnect. The first is up to twice as long, and each further one is doubled.
pub const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest pause before a reconnect.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The most updates a second of the demo: hundreds of times what the feeder sends, enough for load tests.
pub const DEMO_RATE_MAX: u32 = 100_000;

/// The longest `retry:` that can be configured. A browser told to wait for more than an hour is lost.
pub const RETRY_MS_MAX: u32 = 3_600_000;

/// The longest keepalive that can be configured: Heroku cuts a silent stream at 55 s, nginx at 60.
pub const KEEPALIVE_SEC_MAX: u64 = 55;

/// How long the command that asks a server whether it is alive waits in all. Docker gives up after 30 seconds
/// and Kubernetes after one; a server that is alive answers within milliseconds.
pub const HEALTHCHECK_DEADLINE: Duration = Duration::from_secs(3);

/// Bytes of the answer that it reads at most: the first line is all that matters.
pub const HEALTHCHECK_BYTES_MAX: usize = 1024;

/// Log lines waiting for a slow standard error; more are dropped and counted.
pub const LOG_LINES_MAX: usize = 1024;

const _: () = {
    assert!(LOG_BYTES_FLOOR <= LOG_BYTES_CEILING);
    assert!(LOG_BYTES_CEILING <= u32::MAX as usize / 2);
    assert!((PACED_BYTES_MAX as u64) < LOG_BYTES_FLOOR as u64 / LOG_UNFLUSHED_PART);
    assert!(READ_BYTES * 2 <= LOG_BYTES_FLOOR - LOG_BYTES_FLOOR / LOG_UNFLUSHED_PART as usize);
    assert!(HEAD_BYTES_MAX <= READ_BYTES);
    assert!(SUBSCRIBER_BYTES_MAX as u64 * SUBSCRIBER_PAUSES_MAX as u64 >= BODY_BYTES_MAX);
    assert!(PEER_TIMEOUT.as_secs() > PATIENCE.as_secs() + TIMER_SLACK.as_secs());
    assert!(BACKOFF_MIN.as_millis() < BACKOFF_MAX.as_millis());
    assert!(PING_DEADLINE.as_secs() < PING_INTERVAL.as_secs());
    assert!(PING_INTERVAL.as_secs() + PING_DEADLINE.as_secs() < UPSTREAM_TIMEOUT.as_secs());
    assert!(AMQP_FRAME_BYTES_MIN <= AMQP_FRAME_BYTES_MAX);
    assert!(2 * (AMQP_HEARTBEAT_SEC as u64) < UPSTREAM_TIMEOUT.as_secs());
    assert!(PUBLISH_BYTES_MAX + 2 * AMQP_BINDS_BYTES < AMQP_UNSENT_BYTES_MAX);
    assert!(TICK.as_millis() == 17);
    assert!(STATUS_ROWS_MAX * STATUS_ROW_BYTES + 8 * 1024 <= STATUS_BYTES_MAX);
    assert!(STATUS_BYTES_MAX <= COMMAND_BYTES_MAX / 2);
};
