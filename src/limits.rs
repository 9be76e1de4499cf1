//! Limits: the bounds of the server, with the reason for the size of each. An option has its range here and its default
//! in `config`. Only what matters to a single file is bounded there.

use std::time::Duration;

/// Connections that the kernel queues until we accept them. A herd of reconnecting browsers arrives within a
/// second; the kernel caps this at `net.core.somaxconn` (4096 on current Linux).
pub const LISTEN_BACKLOG: i32 = 4096;

/// Connections accepted in one turn, so that a herd cannot delay the tick: an accept costs about 10 µs, so 64 take
/// less than a millisecond.
pub const ACCEPTS_PER_TURN: usize = 64;

/// The pause in accepting after the process or the machine ran out of descriptors. It ends early when one of our own
/// connections closes.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(500);

/// Reads from clients in one turn; the rest follow after the next poll.
pub const READS_PER_TURN: usize = 256;
/// Writes to clients in one turn: at 5 to 10 µs each, a few milliseconds between two polls.
pub const WRITES_PER_TURN: usize = 512;
/// Bytes read from one socket at a time; all sockets share one buffer of this size.
pub const READ_BYTES: usize = 64 * 1024;

/// Subscribers of one namespace that a pass visits before the next namespace gets its turn: a namespace with ten
/// thousand subscribers delays the others by this many writes, not by ten thousand.
pub const WRITES_PER_NAMESPACE: usize = 64;

/// Passes over a namespace with at least this many subscribers are paced.
pub const PACED_SUBSCRIBERS_MIN: usize = 32;
/// Bytes of messages that may wait for a paced pass.
pub const PACED_BYTES_MAX: usize = WRITE_BYTES / 2;

/// The interval between the starts of two passes, per subscriber: about twice what a pass takes, so that a busy stream
/// uses at most half a core, and its messages share writes. At 20 µs, raw to 100 clients at 1,000 messages a second costs
/// two thirds of that, but half of the messages take 1.4 ms instead of 0.8.
pub const PASS_PAUSE_PER_SUBSCRIBER: Duration = Duration::from_micros(10);
/// The longest such interval, and so the longest that pacing delays a message.
pub const PASS_PAUSE_MAX: Duration = Duration::from_millis(2);

/// Reads from the broker in one turn, so that a flood of messages leaves room for clients.
pub const SOURCE_READS_PER_TURN: usize = 4;

/// The longest request head, request line included. Browsers stay below 8 KiB unless a site sets large cookies;
/// nginx allows 4 × 8 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header lines in one request; httparse needs an array of this size on the stack.
pub const HEADERS_MAX: usize = 96;

/// Bytes that the client of a stream may send within [`SUBSCRIBER_WINDOW`], which are discarded: 9 KiB a second. It has no
/// reason to send any, but the rest of the longest request body and a pipelined request fit. Without this bound, a client
/// that keeps sending would cost unbounded processor time.
pub const SUBSCRIBER_BYTES_MAX: u32 = 72 * 1024;
/// The window for counting the bytes of a subscriber.
pub const SUBSCRIBER_WINDOW: Duration = Duration::from_secs(8);

/// Bytes read at a time of input that is discarded. Reading all that has come would let a client that sends behind its
/// reply take the loop's time.
pub const DISCARDED_READ_BYTES: usize = 8 * 1024;

/// The longest request body that endpoints without a use for it read and discard.
pub const BODY_BYTES_MAX: u64 = 64 * 1024;
/// The longest body of a publication: a large tweet has 10 KiB, and a longer message would evict from the log what
/// other clients still need.
pub const PUBLISH_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Bytes of one publication, summed over its channels: half of what may wait to be sent to a broker, so that it is
/// sent on all of them or on none.
pub const PUBLISH_BYTES_MAX: usize = COMMAND_BYTES_MAX / 2;

/// Bytes of incomplete heads and bodies whose senders have not authenticated yet: eight of the longest bodies.
pub const UNAUTHENTICATED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of each such head or body that do not count, and that are read behind a request that is not answered yet: most heads
/// are shorter.
pub const UNAUTHENTICATED_BYTES_FREE: usize = 2 * 1024;

/// How long a stream is held until the source confirms its channels. Users notice a longer wait, and a source that
/// takes longer is in trouble.
pub const HOLD_MAX: Duration = Duration::from_secs(1);

/// Bytes of memory that channels and IDs of details may take that somebody wants, beside [`NAMES_BYTES_PER_STREAM`]: some
/// twenty thousand with usual names. Each is kept for a while after its last subscriber has left, and clients may invent
/// names; one network may have half of this.
pub const NAMES_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What each open stream adds to that: whoever has a stream may have a channel that nobody else has.
pub const NAMES_BYTES_PER_STREAM: usize = 1024;
/// What a channel takes beside its name: 530 bytes were measured, and tables that have just doubled have room for more.
pub const NAME_BYTES: usize = 768;
/// How often a channel's name is kept: in the bus twice, in the demand, for the broker, and in a command to it.
pub const NAME_COPIES: usize = 5;
/// Idle names that are looked at for one of a network's own, which can go for a new one: they take 50 µs. Those who make up
/// names have most of them.
pub const IDLE_NAMES_SEEN_MAX: usize = 256;
/// Commands about channels that a broker may leave unanswered, beside one for each channel, until new channels are refused:
/// they take some 5 MB if the names are long. Redis answers as many in a tenth of a second.
pub const CHANNEL_COMMANDS_MAX: usize = 10_000;

/// The longest chunk-size line, extensions included.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;

/// The longest segment of a namespace, decoded.
pub const SEGMENT_BYTES_MAX: usize = 200;

/// Namespaces that one connection may carry. A browser has six connections to a host, and a page some emoji.
pub const NAMESPACES_MAX: usize = 32;

/// Names in one list of channels or namespaces, repeated ones included: a query of 16 KiB has room for eight thousand,
/// and no request may take a millisecond.
pub const LISTED_NAMES_MAX: usize = 1_024;
/// Channel patterns that can be configured: each requested name is matched against all of them.
pub const CHANNEL_PATTERNS_MAX: usize = 64;

/// The longest time that can be configured for keeping a channel without subscribers: an hour. Meanwhile Redis
/// keeps sending us its messages, and they take up space in the log.
pub const REPLAY_SEC_MAX: u64 = 3_600;
/// The most channels that can be configured to appear in reports: some hundred bytes each.
pub const CHANNEL_STATS_MAX: usize = 10_000;
/// The most hops of `X-Forwarded-For` that can be trusted.
pub const TRUSTED_PROXIES_MAX: usize = 16;
/// The longest lifetime of a stream that can be configured: a day.
pub const LIFETIME_SEC_MAX: u64 = 86_400;
/// The longest drain that can be configured.
pub const DRAIN_SEC_MAX: u64 = 600;
/// The longest `retry:` that can be configured: an hour. A browser that waits longer will not be back.
pub const RETRY_MS_MAX: u32 = 3_600_000;
/// The longest keepalive interval that can be configured: Heroku cuts a silent stream after 55 s, nginx after 60, and what
/// is sent has to arrive by then.
pub const KEEPALIVE_SEC_MAX: u64 = 50;
/// The longest time that a connection can be configured to be idle between two requests: proxies give up earlier.
pub const IDLE_SEC_MAX: u64 = 3_600;
/// How long a connection may be idle between two requests where clients connect directly: a browser sends what a page
/// needs in less time, and each connection takes a descriptor.
pub const IDLE: Duration = Duration::from_secs(10);
/// The same where connections come from trusted proxies: Heroku's router and nginx close one after 90 and 60 s. Whoever
/// closes first may close upon a request that is on its way, so it has to be the proxy, which knows of it.
pub const IDLE_BEHIND_PROXY: Duration = Duration::from_secs(95);
/// The highest rate of the demo: hundreds of times what the feeder sends, enough for load tests.
pub const DEMO_RATE_MAX: u32 = 100_000;

/// Bytes of a request target and of a user agent that are kept for the status pages.
pub const SHOWN_BYTES_MAX: usize = 256;

/// How long a client may take to send a whole request head, from its first byte or from the beginning of a connection.
/// [`BODY_BYTES_PER_SEC_MIN`] extends it by what has come of a body.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How fast a body has to come at least, on average after [`REQUEST_DEADLINE`]: a phone with a bad connection has twice
/// that. The longest body has 74 s then, and a byte every nine seconds gains nothing: a client can hold its connection,
/// and its part of [`UNAUTHENTICATED_BYTES_MAX`], only as long as it pays for them with bytes.
pub const BODY_BYTES_PER_SEC_MIN: u64 = 16 * 1024;

/// How long a connection lingers after we have shut it down until the client closes too, so that a reset does not
/// destroy the last reply (RFC 9112 §9.6).
pub const LINGER_DEADLINE: Duration = Duration::from_secs(2);

/// How long a client that is being closed may take to accept its last bytes, and how long the process may take to
/// exit after its last stream.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// How early a connection's timer may fire, so that timers close together share one wake-up.
pub const TIMER_SLACK: Duration = Duration::from_millis(250);
/// How early the end of a lifetime may fire, which is documented to come at 80 % of it at the earliest.
pub const LIFETIME_SLACK: Duration = Duration::from_millis(15);

/// How long a subscriber that is behind may accept no bytes at all. A phone that sleeps for half a minute is served
/// when it wakes up; waiting costs us only a cursor.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `TCP_USER_TIMEOUT`: how long the kernel waits for a peer to take bytes before it reports it dead. On Linux this
/// includes peers that are alive but do not read. It is longer than `PATIENCE`, so that these are closed as `slow`,
/// and `timeout` means that a peer is gone.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(75);

/// `TCP_NOTSENT_LOWAT`: unsent bytes that the kernel buffers for one client before its socket becomes unwritable.
/// What is not yet in the kernel can still be conflated.
pub const NOTSENT_BYTES: u32 = 16 * 1024;

/// `SO_SNDBUF` of a client's socket, which the kernel doubles to leave room for its bookkeeping: what it may hold that a
/// client has not acknowledged. A client that does not read acknowledges what fits into its own buffer, so that
/// [`NOTSENT_BYTES`] is what counts; this bound is for one that opens its window and then acknowledges nothing, for which
/// the kernel would hold up to 4 MB (`tcp_wmem`). A replay has some 128 KiB on the way, which are 2.5 MB a second over 50 ms
/// and 0.6 MB a second over 200 ms.
pub const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Bytes of events in one write of a pass.
pub const WRITE_BYTES: usize = 64 * 1024;
/// Bytes of events in one write outside a pass: such a client usually needs a batch of its own, and the part that it
/// does not accept has to be encoded again.
pub const ALONE_BYTES: usize = 16 * 1024;

/// How long a namespace lingers after all its clients were told to reconnect. Browsers return within the retry time,
/// those in background tabs some seconds later.
pub const LINGER: Duration = Duration::from_secs(30);

/// Cleanups from one address in one window, not counting relayed ones: somebody who reloads a page as fast as possible
/// sends three a second, and several people may share an address.
pub const CLEANUPS_PER_WINDOW: u32 = 60;
/// The window for counting cleanups.
pub const CLEANUP_WINDOW: Duration = Duration::from_secs(10);
/// Networks counted in one window, some 50 bytes each; further ones wait for the next.
pub const RATE_NETWORKS_MAX: usize = 8 * 1024;
/// The most streams that one cleanup closes; a page has a handful.
pub const CLEANUP_CLOSES_MAX: usize = 128;

/// The longest cleanup that copies of the server tell each other: most have some 200 bytes, and an ID and a token of
/// which every byte is escaped fit.
pub const RELAY_BYTES_MAX: usize = 4 * 1024;

/// The longest token. A UUID has 36 bytes.
pub const TOKEN_BYTES_MAX: usize = 64;

/// Wrong secrets from one network in one window; further secrets are then refused unread, so that a correct guess cannot
/// be told from a wrong one. A person makes one mistake at a time.
pub const AUTH_FAILURES_PER_WINDOW: u32 = 5;
/// The window for counting wrong secrets: others behind the same address wait no longer than this for an attack to end.
pub const AUTH_WINDOW: Duration = Duration::from_secs(1);
/// The shortest time between two log lines about wrong secrets.
pub const AUTH_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// The shortest secret that is not warned of: 16 hexadecimal digits take longer to guess at
/// [`AUTH_FAILURES_PER_WINDOW`] than anybody has, even from all networks that are counted at once.
pub const SECRET_BYTES_ADVISED: usize = 16;
/// The longest secret that can be configured: any kind of key fits, and it is far shorter than a request head.
pub const SECRET_BYTES_MAX: usize = 256;

/// The shortest `Retry-After` for a client that was shed.
pub const SHED_RETRY_MIN: Duration = Duration::from_secs(5);
/// The longest one: the times are spread, so that a herd does not return all at once.
pub const SHED_RETRY_MAX: Duration = Duration::from_secs(30);

/// The shortest `retry:` sent in a drain. What is published until the client is back is lost to most streams.
pub const DRAIN_RETRY_MIN: Duration = Duration::from_millis(100);
/// How much longer the longest one is for each stream that is open when the drain begins: a thousand clients a second are no
/// herd for the copy that they return to.
pub const DRAIN_RETRY_PER_STREAM: Duration = Duration::from_millis(1);
/// The longest one at most.
pub const DRAIN_RETRY_MAX: Duration = Duration::from_secs(5);
/// How long a server that stops at least goes on accepting, unless it has no connection: routers learn of the stop
/// a moment later than we do.
pub const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// The interval between two slices of a drain.
pub const DRAIN_BEAT: Duration = Duration::from_millis(20);
/// The smallest slice, so that a small server stops quickly.
pub const DRAIN_SLICE_MIN: usize = 20;

/// Descriptors reserved for everything but clients and listeners: the poll and its waker, signals, standard streams,
/// three sockets to brokers, one to Graphite, a resolver, reads of `/proc`. These are some 18; without them we
/// could not reconnect to the broker.
pub const DESCRIPTORS_RESERVED: usize = 24;

/// Sockets reserved for `ADMIN_LISTEN`, if set: for one browser, which opens six connections to a host, and two
/// probes. If there are few sockets, each side gets half of them instead.
pub const ADMIN_SOCKETS_RESERVED: usize = 8;

/// Sockets that one network may have beside two for each of its streams: a browser keeps up to six to a host, and a
/// school or an office may share an address.
pub const SOCKETS_BESIDE_STREAMS: usize = 32;
/// One part in so many of the sockets is never taken by a single network: half of those that are left for requests
/// other than streams.
pub const SOCKETS_FOR_OTHERS_PART: usize = 32;

/// Addresses that `LISTEN` and `ADMIN_LISTEN` may each have: machines have few, each costs a descriptor, and the
/// poll reserves a fixed number of tokens for them.
pub const LISTEN_ADDRESSES_MAX: usize = 16;

/// Names that `ADMIN_HOSTS` may list: a host has few, and each request is compared with all of them.
pub const ADMIN_HOSTS_MAX: usize = 16;

/// The interval of the tick: 60 Hz, rounded up to a millisecond, as the API has always documented.
pub const TICK: Duration = Duration::from_millis(17);

/// The longest id accepted in a score update. The longest emoji sequence is 59 bytes as a unified ID.
pub const SCORE_ID_BYTES_MAX: usize = 128;

/// The largest segment of the log, which stores messages back to back. A longer message gets a segment of its own.
pub const LOG_SEGMENT_BYTES: usize = 64 * 1024;
/// A segment takes at most one part in so many of the log: the log evicts whole segments, and the unused end of the
/// newest counts as well.
pub const LOG_SEGMENT_PART: usize = 16;

/// Breaks of a stream that are known at a time. A client that was sent a part of a batch is sent the rest of the same bytes,
/// so a break must be known for the minute of its patience; the source is not lost and found again as often in that time.
pub const BREAKS_MAX: usize = 1_000;

/// What a message costs the log besides its bytes: its entry (32 bytes) and its place in the lists of two namespaces.
pub const LOG_ENTRY_BYTES: usize = 48;

/// The ids of scores take at most one part in so many of the log: 850 emoji take 100 KB, which must fit into the
/// smallest log, and a publisher that invents ids must not evict everything else.
pub const LOG_SYMBOLS_PART: usize = 2;
/// A block of the tape ends at the latest when the ids that are new in it take one part in so many of the log: what
/// has not been offered yet must not share a block with what has to go.
pub const LOG_TAPE_PART: usize = 8;
/// Cached batches take at most one part in so many of the log.
pub const LOG_BATCHES_PART: usize = 8;
/// A write takes at most one part in so many of the log: the batch cache must have room for eight, in buffers that
/// grow by doubling. A message that is longer than a write is not copied into a batch.
pub const LOG_WRITE_PART: usize = 64;

/// Scores that one sum covers at most: a sum is made at once, and a full log has a million of them, which take 13 ms.
pub const SUM_SCORES_MAX: usize = 64 * 1024;

/// What an event usually has besides its payload: field names, line ends, and its share of a chunk's head.
pub const EVENT_BYTES: usize = 16;

/// Reading from the source pauses once one part in so many of the log has not been offered to all subscribers. The
/// read under way still fits: its `READ_BYTES` take up to twice as much in the log, where each score has a new id.
pub const LOG_UNFLUSHED_PART: u64 = 4;
/// The longest such pause. A client that cannot accept a quarter of the log in this time is slow, and must not hold
/// up the others.
pub const SOURCE_HOLD_MAX: Duration = Duration::from_millis(250);

/// Encoding this many bytes of events takes as long as one write, some 6 µs, and is charged as one to the turn.
pub const ENCODED_BYTES_PER_WRITE: usize = 10 * 1024;

/// How long a process that is otherwise ready to exit waits for its row to be removed from Redis.
pub const ROW_REMOVAL_DEADLINE: Duration = Duration::from_secs(1);

/// The longest status written to Redis; connections that do not fit are left out, but their total is complete. It is
/// a small part of what may wait to be sent, which leaves room for relayed cleanups.
pub const STATUS_BYTES_MAX: usize = 512 * 1024;
/// What a connection takes in that status, for a detail stream with an IPv6 address and a long user agent. Most
/// take some 250 bytes; a client that means to can take more than a thousand.
pub const STATUS_ROW_BYTES: usize = 400;
/// The most connections that one report can be configured to list: as many as usually fit into [`STATUS_BYTES_MAX`]
/// (see [`STATUS_ROW_BYTES`]), besides a few kilobytes of figures.
pub const STATUS_ROWS_MAX: usize = 1_250;

/// The smallest log that can be configured: four segments.
pub const LOG_BYTES_FLOOR: usize = 4 * LOG_SEGMENT_BYTES;
/// The largest log that can be configured: offsets within a segment have 32 bits, and the whole log must stay well
/// below that.
pub const LOG_BYTES_CEILING: usize = 1 << 30;

/// The interval at which the status is written to Redis, and for which a cluster document is reused. The admin service
/// drops rows older than 50 s.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// The interval of the reports to Graphite. By default Carbon stores one point for every ten seconds or minute.
pub const GRAPHITE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes that the kernel may buffer for a Graphite daemon that does not read: a few reports of 1 to 4 KB. What the
/// kernel has cannot be dropped any more, and arrives too late when the daemon continues.
pub const GRAPHITE_KERNEL_BYTES_MAX: usize = 8 * 1024;

/// The longest datagram: it passes through any network unfragmented.
pub const DATAGRAM_BYTES_MAX: usize = 1400;
/// How long datagrams are sent to an address before its name is resolved again.
pub const DATAGRAM_TARGET_AGE_MAX: Duration = Duration::from_secs(600);

/// How long the broker may take to answer when a client is waiting.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// How long we do not repeat a query that the broker did not answer.
pub const ANSWER_RETRY: Duration = Duration::from_secs(5);
/// How long we do not repeat a query that the broker refused: somebody has to change its permissions first.
pub const REFUSAL_RETRY: Duration = Duration::from_secs(60);

/// The most nodes that the cluster view shows.
pub const NODES_MAX: usize = 1_000;
/// Rows of nodes that have not reported for so long are left out, as in the admin service.
pub const NODE_SILENCE_MAX: Duration = Duration::from_secs(50);
/// Bytes that lists of connections may fill in a document about one node or all of them: some fifteen thousand
/// connections. Those that do not fit are left out, but their total is complete.
pub const DOCUMENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the scores that the live page starts with are reused.
pub const SCORES_AGE_MAX: Duration = Duration::from_secs(1);

/// The largest body that is copied for each client; longer ones are shared.
pub const COPIED_BODY_BYTES_MAX: usize = 4 * 1024;

/// How long a document about this node is reused.
pub const DOCUMENT_AGE_MAX: Duration = Duration::from_millis(100);
/// Versions of a document that may be in transfer at a time; further requests get the newest of them. With the longest
/// documents, these are 16 MiB.
pub const DOCUMENT_VERSIONS_MAX: usize = 4;

/// The longest reply of a broker, which is buffered until it is complete. The largest message that fits into the
/// default log is 2 MiB; a longer reply ends the session, because the stream can no longer be parsed.
pub const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Elements of such a reply, those within others included. A parsed element takes some 50 bytes, so that a reply of
/// nothing but empty ones takes 3 MiB. The longest replies that are asked for have some thousand.
pub const REPLY_ELEMENTS_MAX: usize = 64 * 1024;

/// Bytes of commands that may wait to be sent to a broker: two of the longest publications. Redis commands beyond that
/// are dropped, and AMQP messages rejected.
pub const COMMAND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long resolving a broker's name may take. The system asks its second name server after five seconds.
pub const RESOLVE_DEADLINE: Duration = Duration::from_secs(30);
/// After how long the addresses are used that the name had the last time: while the network is cut off, name servers do not
/// answer either. It is so short that the network's return is noticed within a second, [`CONNECT_DEADLINE`] included.
pub const RESOLVE_PATIENCE: Duration = Duration::from_millis(250);

/// How long establishing a connection may take. The kernel repeats a lost request after 1, 3 and 7 s, so that the return of
/// a network that was cut off would be noticed late; a new attempt sends a new request at once. Round trips over the longest
/// distances take 0.4 s.
pub const CONNECT_DEADLINE: Duration = Duration::from_millis(700);

/// How long Redis may be silent within its answers to our first commands. A new connection does not help if Redis is busy,
/// but after the network was cut off, the kernel sends what was lost again only after growing pauses.
pub const GREETING_SILENCE: Duration = Duration::from_secs(2);
/// How long an AMQP broker may take for the handshake, which asks services of its own whether we may log in.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// `TCP_USER_TIMEOUT` of outgoing connections: how long the kernel waits for the other side to take bytes before it
/// reports it dead; the default is a quarter of an hour. It spans three reports to Graphite; a silent broker is
/// detected earlier, by PING or by the missing heartbeats.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the connection to a Redis may be silent before we send PING, rounded up to the next second of our clock: a
/// silent connection has a PING every two seconds, and both connections have it in the same turn.
pub const PING_INTERVAL: Duration = Duration::from_secs(1);
/// How long Redis may take to answer PING. With [`PING_INTERVAL`], a Redis that is cut off is noticed after 3.5 to 4.5 s. One
/// that is busy for less, with a slow script for instance, is not given up.
pub const PING_DEADLINE: Duration = Duration::from_millis(2_500);

/// The longest AMQP frame, header and end octet included: what RabbitMQ proposes. A long body takes several.
pub const AMQP_FRAME_BYTES_MAX: usize = 128 * 1024;
/// The smallest limit that a broker may propose instead (AMQP's frame-min-size).
pub const AMQP_FRAME_BYTES_MIN: usize = 4 * 1024;

/// The longest body accepted from AMQP. A message is buffered until it is complete; a longer one is skipped as it
/// arrives.
pub const AMQP_BODY_BYTES_MAX: u64 = 1024 * 1024;

/// The heartbeat interval of an AMQP connection. Both sides send a frame twice in it; after twice that without one, the
/// connection counts as lost, so that a broker that is cut off is noticed within 4 s.
pub const AMQP_HEARTBEAT_SEC: u16 = 2;

/// Bindings of channels are encoded until so many bytes wait to be sent: ten thousand of them take a megabyte.
pub const AMQP_BINDS_BYTES: usize = 64 * 1024;

/// Messages that an AMQP broker has not confirmed yet. Each costs us two numbers; further ones are rejected.
pub const AMQP_UNCONFIRMED_MAX: usize = 64 * 1024;

/// The longest name in AMQP: the length of a short string is one byte.
pub const AMQP_NAME_BYTES_MAX: usize = 255;

/// The shortest pause before a reconnect. The first is up to twice as long, and each further one doubles. Messages that are
/// published meanwhile are lost; a Redis that restarts is dialed by each copy five times in the first half second.
pub const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause before a reconnect while the broker or the network is away, whose return is to be noticed within a
/// second.
pub const BACKOFF_AWAY_MAX: Duration = Duration::from_millis(400);
/// The longest pause after a broker has refused us, and before a reconnect to Graphite.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a session must have lasted for its end to be the first failure in a row. One that ends earlier, again and again,
/// is made again two to five times a second.
pub const LASTING_SESSION: Duration = Duration::from_secs(1);

/// How often the first Redis server of the list is tried while another one is in use.
pub const FIRST_SERVER_INTERVAL: Duration = Duration::from_secs(10);

/// Failures in a row that are logged one by one.
pub const FAILURES_LOGGED: u32 = 5;
/// The interval at which further ones are.
pub const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(5);

/// How often the status line for a service manager is brought up to date, in turns that happen anyway.
pub const STATUS_LINE_INTERVAL: Duration = Duration::from_secs(5);

/// How long `healthcheck` waits for an answer. Docker gives up after 30 seconds and Kubernetes after one; a server
/// that is alive answers within milliseconds.
pub const HEALTHCHECK_DEADLINE: Duration = Duration::from_secs(3);
/// The most bytes of the answer that `healthcheck` reads: only the first line matters.
pub const HEALTHCHECK_BYTES_MAX: usize = 1024;

/// Log lines that may wait for a slow standard error; more are dropped and counted.
pub const LOG_LINES_MAX: usize = 1024;

const _: () = {
    assert!(LOG_BYTES_CEILING <= u32::MAX as usize / 2);
    assert!((PACED_BYTES_MAX as u64) < LOG_BYTES_FLOOR as u64 / LOG_UNFLUSHED_PART);
    assert!(READ_BYTES * 2 < LOG_BYTES_FLOOR - LOG_BYTES_FLOOR / LOG_UNFLUSHED_PART as usize);
    assert!(HEAD_BYTES_MAX <= READ_BYTES);
    assert!(SUBSCRIBER_BYTES_MAX as u64 > BODY_BYTES_MAX);
    assert!(PEER_TIMEOUT.as_secs() > PATIENCE.as_secs() + TIMER_SLACK.as_secs());
    assert!(2 * PING_INTERVAL.as_millis() + PING_DEADLINE.as_millis() < 5_000);
    assert!(RESOLVE_PATIENCE.as_millis() + CONNECT_DEADLINE.as_millis() < 1_000);
    assert!(PING_INTERVAL.as_secs() + PING_DEADLINE.as_secs() < UPSTREAM_TIMEOUT.as_secs());
    assert!(2 * (AMQP_HEARTBEAT_SEC as u64) < UPSTREAM_TIMEOUT.as_secs());
    assert!(PUBLISH_BYTES_MAX + 2 * AMQP_BINDS_BYTES < COMMAND_BYTES_MAX);
    assert!(STATUS_ROWS_MAX * STATUS_ROW_BYTES + 8 * 1024 <= STATUS_BYTES_MAX);
    assert!(STATUS_BYTES_MAX <= COMMAND_BYTES_MAX / 2);
};
