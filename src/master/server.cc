// See server.h.
#include "master/server.h"

#include <algorithm>
#include <array>
#include <deque>
#include <vector>

#include "base/log.h"
#include "base/log_quota.h"
#include "master/callers.h"
#include "master/journal.h"
#include "master/listener.h"
#include "master/wakeup.h"

namespace pccl::master {
namespace {

using protocol::ConnId;

constexpr Duration kDrainTime = std::chrono::seconds(2);
constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr int kReadsAtOnce = 4;  ///< reads of one connection before the others have their turn
/// Descriptors reserved for the rest of the process.
constexpr std::size_t kSpareFiles = 64;
/// Interval between attempts to write a record that the journal could not write.
constexpr Duration kRetryJournal = std::chrono::seconds(1);

protocol::MasterOptions protocol_options(const ServerOptions &options, bool journal) {
    protocol::MasterOptions protocol = options.protocol;
    protocol.journal = journal;
    return protocol;
}

std::size_t connection_limit(std::size_t wanted) {
    const std::size_t files = raise_file_limit();
    const std::size_t possible = files > 2 * kSpareFiles ? files - kSpareFiles : files / 2;
    if (wanted > possible)
        PCCL_LOG_INFO("at most %zu connections: the limit of open files is %zu. Raise it with ulimit -n", possible, files);
    return std::max<std::size_t>(1, std::min(wanted, possible));
}

}  // namespace

/// Runs on the loop's thread. The effects of a step are executed before the next input is processed. Their output is sent at the
/// end of the loop's iteration, in one write per connection.
class Server::Service final : public ConnectionOwner {
public:
    Service(Fd socket, std::unique_ptr<Journal> journal, const ServerOptions &options)
        : max_output_(options.max_output_bytes), journal_(std::move(journal)),
          master_(protocol_options(options, journal_ != nullptr), random_secret,
                  journal_ ? journal_->record() : std::optional<protocol::Record>{}),
          callers_(connection_limit(options.max_connections)),
          listener_(std::move(socket),
                    {[this](Accepted accepted) { on_accepted(std::move(accepted)); }, [this] { return make_room(); }}) {}
    Service(const Service &) = delete;
    Service &operator=(const Service &) = delete;
    ~Service();

    Status start();
    SocketAddress address() const { return address_; }
    void run();
    void interrupt() { uv_async_send(&async_); }

private:
    void on_ready(Connection &connection, bool broken) override;
    void on_accepted(Accepted accepted);
    void after_poll();

    void take_frames(Connection &connection);
    void disconnect(Connection &connection, const std::string &why);
    bool make_room();
    void log_refusal(const char *what, const SocketAddress &who, const std::string &why);

    void feed(protocol::MasterInput input);
    void execute(protocol::MasterEffect &effect);
    void send(ConnId to, const wire::ToPeer &message);
    void flush();
    Time next_deadline() const;
    void persist(std::shared_ptr<const protocol::Record> record);

    const std::size_t max_output_;
    std::unique_ptr<Journal> journal_;
    std::shared_ptr<const protocol::Record> unsaved_;  ///< the newest record, if the journal could not write it
    Time retry_journal_;
    protocol::Master master_;
    Callers callers_;
    Listener listener_;
    SocketAddress address_;

    bool looping_ = false;  ///< loop_ and async_ exist
    uv_loop_t loop_{};
    uv_async_t async_{};
    std::optional<Wakeup> wakeup_;

    ConnId last_id_;
    LogQuota refusals_;
    std::deque<protocol::MasterInput> inputs_;
    bool stepping_ = false;
    std::vector<ConnId> dirty_;  ///< connections with output that this iteration queued
    std::array<std::byte, kReadBytes> scratch_;
};

// ---------------------------------------------------------------------------------------------------------- the loop's life --

Status Server::Service::start() {
    address_ = listener_.address();
    if (const int error = uv_loop_init(&loop_); error != 0)
        return Error{pcclInternalError, std::string("cannot create an event loop: ") + uv_strerror(error)};
    if (const int error = uv_async_init(&loop_, &async_, [](uv_async_t *async) { uv_stop(async->loop); }); error != 0) {
        uv_loop_close(&loop_);
        return Error{pcclInternalError, std::string("cannot create an event loop: ") + uv_strerror(error)};
    }
    looping_ = true;
    wakeup_.emplace(loop_, [this] { after_poll(); });
    return listener_.start(loop_);
}

void Server::Service::run() {
    wakeup_->arm(monotonic_now(), next_deadline());
    uv_run(&loop_, UV_RUN_DEFAULT);
    flush();
    listener_.close();
    callers_.close_all();
    wakeup_->close();
    uv_run(&loop_, UV_RUN_NOWAIT);  // the handles are closed in one more iteration
    wakeup_.reset();
}

Server::Service::~Service() {
    if (!looping_) return;
    listener_.close();
    if (wakeup_) wakeup_->close();
    uv_close(reinterpret_cast<uv_handle_t *>(&async_), nullptr);
    while (uv_loop_close(&loop_) == UV_EBUSY)
        uv_run(&loop_, UV_RUN_NOWAIT);
}

void Server::Service::after_poll() {
    const auto drained = callers_.next_deadline();
    if (drained && wakeup_->due(*drained)) callers_.close_overdue(*drained);
    const auto paused = listener_.paused_until();
    if (paused && wakeup_->due(*paused)) listener_.resume();
    if (unsaved_ && wakeup_->due(retry_journal_)) persist(unsaved_);
    if (wakeup_->due(master_.next_timeout())) feed(protocol::MasterTick{});
    if (const auto more = refusals_.take_unlogged(monotonic_now()))
        PCCL_LOG_WARN("%llu more connections were refused or closed in the last minutes", static_cast<unsigned long long>(more));
    flush();
    wakeup_->arm(monotonic_now(), next_deadline());
}

Time Server::Service::next_deadline() const {
    Time next = master_.next_timeout();
    if (const auto drained = callers_.next_deadline()) next = std::min(next, *drained);
    if (const auto paused = listener_.paused_until()) next = std::min(next, *paused);
    if (unsaved_) next = std::min(next, retry_journal_);
    return next;
}

// -------------------------------------------------------------------------------------------------------------------- input --

void Server::Service::on_accepted(Accepted accepted) {
    if (callers_.full() && !make_room()) {
        const std::string why = "the master is at its limit of " + std::to_string(callers_.limit()) + " connections";
        log_refusal("refusing the connection from", accepted.from, why);
        const wire::Bytes words = wire::encode(wire::Removed{pcclMasterConnectionFailed, why});
        (void)Stream(accepted.socket.get()).write(words);
        return;
    }
    const ConnId id{++last_id_.value};
    Connection *connection = Connection::open(loop_, *this, id, std::move(accepted.socket), accepted.from);
    if (!connection) {
        log_refusal("refusing the connection from", accepted.from, "the event loop does not accept it");
        return;
    }
    callers_.add(connection);
    feed(protocol::Connected{id, accepted.from});
}

/// Warnings are limited, because anyone can open thousands of connections.
void Server::Service::log_refusal(const char *what, const SocketAddress &who, const std::string &why) {
    if (refusals_.admit(monotonic_now()))
        PCCL_LOG_WARN("%s %s: %s", what, to_string(who).c_str(), why.c_str());
    else
        PCCL_LOG_DEBUG("%s %s: %s", what, to_string(who).c_str(), why.c_str());
}

bool Server::Service::make_room() {
    Connection *least = callers_.least_needed();
    if (!least) return false;
    if (least->state() == Connection::State::draining) {
        callers_.close(*least);
    } else {
        log_refusal("closing the connection from", least->from(),
                    "it has not sent Hello, and another connection needs its place");
        disconnect(*least, "closed to make room");
    }
    return true;
}

void Server::Service::on_ready(Connection &connection, bool broken) {
    connection.flush();
    auto input = Connection::Input::more;
    int error = 0;
    // A broken connection is read to its end, because the loop does not call again for it.
    for (int i = 0; input == Connection::Input::more && (broken || i < kReadsAtOnce); ++i) {
        try {
            input = connection.read(scratch_, error);
        } catch (const std::bad_alloc &) {
            PCCL_LOG_ERROR("out of memory for a message of %s", to_string(connection.from()).c_str());
            return disconnect(connection, "the master is out of memory for its message");
        }
        take_frames(connection);
        if (connection.state() == Connection::State::closed) return;
    }
    if (connection.state() == Connection::State::welcomed && connection.partial_bytes() > 0)
        feed(protocol::BytesReceived{connection.id()});
    if (input == Connection::Input::ended)
        disconnect(connection, connection.partial_bytes() > 0 ? "its connection ended within a message" : "its connection ended");
    else if (input == Connection::Input::failed)
        disconnect(connection, "its connection broke: " + error_text(error));
    else if (broken)
        disconnect(connection, "its connection broke");
}

void Server::Service::take_frames(Connection &connection) {
    std::span<const std::byte> frame;
    wire::ToMaster message;
    while (connection.state() == Connection::State::before_hello || connection.state() == Connection::State::welcomed) {
        const auto next = connection.next_frame(frame);
        if (next == wire::FrameBuffer::Next::need_more) return;
        std::string why;
        if (next == wire::FrameBuffer::Next::bad)
            why = "it sent bytes that are not a PCCL message (a length of 0 or beyond " +
                  std::to_string(connection.frame_limit()) + " bytes)";
        else if (!wire::decode(frame, message))
            why = "it sent bytes that are not a PCCL message (" + std::to_string(frame.size()) + " bytes that cannot be decoded)";
        if (!why.empty()) {
            log_refusal("closing the connection from", connection.from(), why);
            return disconnect(connection, why);
        }
        feed(protocol::Received{connection.id(), std::move(message)});
    }
}

void Server::Service::disconnect(Connection &connection, const std::string &why) {
    const bool known =
        connection.state() != Connection::State::draining;  // the protocol has closed a draining connection already
    const ConnId id = connection.id();
    callers_.close(connection);
    if (known) feed(protocol::Disconnected{id, why});
}

// ------------------------------------------------------------------------------------------------------------------- output --

void Server::Service::feed(protocol::MasterInput input) {
    inputs_.push_back(std::move(input));
    if (stepping_) return;
    stepping_ = true;
    protocol::MasterEffects effects;
    while (!inputs_.empty()) {
        effects.clear();
        master_.step(monotonic_now(), inputs_.front(), effects);
        inputs_.pop_front();
        for (protocol::MasterEffect &effect : effects)
            execute(effect);
    }
    stepping_ = false;
}

void Server::Service::execute(protocol::MasterEffect &effect) {
    if (const auto *out = std::get_if<protocol::SendToPeer>(&effect)) {
        send(out->conn, out->message);
    } else if (const auto *end = std::get_if<protocol::CloseConnection>(&effect)) {
        Connection *connection = callers_.find(end->conn);
        if (!connection || connection->state() == Connection::State::draining) return;
        connection->flush();
        callers_.drain(*connection, monotonic_now() + kDrainTime);
    } else if (const auto *note = std::get_if<protocol::Log>(&effect)) {
        if (log_enabled(note->level)) log(note->level, "%s", note->text.c_str());
    } else if (const auto *record = std::get_if<protocol::Persist>(&effect)) {
        persist(record->record);
    }
}

/// If the journal cannot be written, the run continues. If this process ends meanwhile, the peers detect that the journal is
/// older than their state, and the run is not resumed.
void Server::Service::persist(std::shared_ptr<const protocol::Record> record) {
    const Status written = journal_->write(*record);
    if (written) {
        if (std::exchange(unsaved_, nullptr)) PCCL_LOG_WARN("the journal %s can be written again", journal_->path().c_str());
        return;
    }
    if (!unsaved_) {
        PCCL_LOG_ERROR("%s. The run continues, but could not be resumed if this master ended now. Retrying every second",
                       written.error().what.c_str());
    }
    unsaved_ = std::move(record);
    retry_journal_ = monotonic_now() + kRetryJournal;
}

void Server::Service::send(ConnId to, const wire::ToPeer &message) {
    Connection *connection = callers_.find(to);
    if (!connection || connection->state() == Connection::State::draining) return;
    if (std::holds_alternative<wire::Welcome>(message)) callers_.welcome(*connection, max_output_);
    bool queued = false;
    try {
        queued = connection->queue(wire::encode(message));
    } catch (const std::bad_alloc &) {
        PCCL_LOG_ERROR("out of memory for the output to %s", to_string(connection->from()).c_str());
        return disconnect(*connection, "the master is out of memory for its output");
    }
    if (!queued) {
        const std::string why = "it does not read: " + std::to_string(connection->queued()) + " bytes wait for it";
        PCCL_LOG_WARN("closing the connection to %s: %s", to_string(connection->from()).c_str(), why.c_str());
        return disconnect(*connection, why);
    }
    if (connection->dirty) return;
    connection->dirty = true;
    dirty_.push_back(to);
}

void Server::Service::flush() {
    for (const ConnId id : dirty_) {
        Connection *connection = callers_.find(id);
        if (!connection) continue;
        connection->dirty = false;
        connection->flush();
    }
    dirty_.clear();
}

// -------------------------------------------------------------------------------------------------------------- the facade --

Server::Server(std::unique_ptr<Service> service) : service_(std::move(service)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::create(const ServerOptions &options) {
    auto socket = listen_on(options.listen);
    if (!socket) return socket.error();
    std::unique_ptr<Journal> journal;
    if (!options.journal.empty()) {
        auto opened = Journal::open(parse_journal_name(options.journal));
        if (!opened) return opened.error();
        journal = std::move(*opened);
    }
    auto service = std::make_unique<Service>(std::move(*socket), std::move(journal), options);
    if (const Status started = service->start(); !started) return started.error();
    return std::unique_ptr<Server>(new Server(std::move(service)));
}

SocketAddress Server::address() const { return service_->address(); }
void Server::run() { service_->run(); }
void Server::interrupt() { service_->interrupt(); }

}  // namespace pccl::master
