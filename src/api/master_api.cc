// The C interface of a master in this process: a server and the thread that runs it. None of these calls needs pcclInit, because
// version 1's master programs do not call it.
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include <pccl/pccl.h>

#include "api/listen_address.h"
#include "api/state.h"
#include "api/structures.h"
#include "base/descriptors.h"
#include "base/float_mode.h"
#include "base/threads.h"
#include "master/server.h"

using namespace pccl;
using namespace pccl::api;

/// Phases: created -> running (pcclRunMaster) -> ended (its end was awaited). The mutex guards `phase` and `serving`. The calls
/// on the server without the mutex are thread-safe.
struct pcclMasterInstanceState_t {
    enum class Phase { created, running, ended };

    explicit pcclMasterInstanceState_t(std::unique_ptr<master::Server> bound) : server(std::move(bound)) {}

    /// Returns whether this process is a forked child of the one that created the master. The child has no server thread, and its
    /// sockets are closed.
    bool forked() const { return generation != fork_generation(); }

    const int generation = fork_generation();
    std::unique_ptr<master::Server> server;
    std::mutex mutex;
    std::condition_variable served;
    Phase phase = Phase::created;
    bool serving = false;
    std::thread thread;
};

namespace {

using Phase = pcclMasterInstanceState_t::Phase;
constexpr std::uint32_t kMinHeartbeatTimeoutMs = 100;

pcclResult_t null_argument(const char *call, const char *argument) {
    return fail(pcclInvalidArgument, std::string(call) + ": " + argument + " is NULL");
}

pcclResult_t fail_forked(const char *call) {
    return fail(pcclInvalidUsage,
                std::string(call) +
                    ": this master belongs to the parent of this forked process. Create another master in this process");
}

/// Starts the server thread with all signals blocked, so that the process's signals go to other threads.
std::thread start_thread(pcclMasterInstanceState_t &instance) {
    return start_without_signals([&instance] {
        const FloatMode mode;  // the thread has inherited its creator's mode
        instance.server->run();
        const std::lock_guard lock(instance.mutex);
        instance.serving = false;
        instance.served.notify_all();
    });
}

pcclResult_t create(const master::ServerOptions &options, pcclMasterInstance_t **out) {
    auto server = master::Server::create(options);
    if (!server) return fail(server.error());
    *out = new pcclMasterInstanceState_t(std::move(*server));
    return succeed();
}

/// Returns the caller's configuration, or an error if a value is invalid.
Result<pcclMasterConfig_t> read_config(const pcclMasterConfig_t &config) {
    pcclMasterConfig_t read;
    if (const auto status = complete(config, read); !status) return status.error();
    if (!read.listen_address) return Error{pcclInvalidArgument, "pcclMasterConfig_t: listen_address is NULL"};
    if (read.heartbeat_timeout_ms < kMinHeartbeatTimeoutMs)
        return Error{pcclInvalidArgument, "pcclMasterConfig_t: heartbeat_timeout_ms is " +
                                              std::to_string(read.heartbeat_timeout_ms) + ". Use at least " +
                                              std::to_string(kMinHeartbeatTimeoutMs)};
    if (read.misuse_grace_ms == 0) return Error{pcclInvalidArgument, "pcclMasterConfig_t: misuse_grace_ms is 0. Use at least 1"};
    if (read.recovery_window_ms == 0)
        return Error{pcclInvalidArgument, "pcclMasterConfig_t: recovery_window_ms is 0. Use at least 1"};
    if (read.straggler_after_ms == 0)
        return Error{pcclInvalidArgument, "pcclMasterConfig_t: straggler_after_ms is 0. Use at least 1"};
    if (read.max_connections == 0) return Error{pcclInvalidArgument, "pcclMasterConfig_t: max_connections is 0. Use at least 1"};
    return read;
}

}  // namespace

pcclResult_t pcclCreateMaster(ccoip_socket_address_t listen_address, pcclMasterInstance_t **p_master_handle_out) {
    return guarded([&] {
        if (!p_master_handle_out) return null_argument("pcclCreateMaster", "p_master_handle_out");
        if (listen_address.inet.protocol != inetIPv4 && listen_address.inet.protocol != inetIPv6)
            return fail(pcclInvalidArgument,
                        "pcclCreateMaster: listen_address.inet.protocol is neither inetIPv4 nor inetIPv6. Set one of them");
        master::ServerOptions options;
        options.listen = from_c(listen_address);
        return create(options, p_master_handle_out);
    });
}

pcclResult_t pcclCreateMasterWithConfig(const pcclMasterConfig_t *config, pcclMasterInstance_t **out) {
    return guarded([&] {
        if (!config) return null_argument("pcclCreateMasterWithConfig", "config");
        if (!out) return null_argument("pcclCreateMasterWithConfig", "out");
        const auto read = read_config(*config);
        if (!read) return fail(read.error());
        const auto listen = parse_listen_address(read->listen_address);
        if (!listen) return fail(listen.error());
        master::ServerOptions options;
        options.listen = *listen;
        auto &protocol = options.protocol;
        protocol.heartbeat_timeout = std::chrono::milliseconds(read->heartbeat_timeout_ms);
        protocol.heartbeat_interval = std::min<Duration>(protocol.heartbeat_interval, protocol.heartbeat_timeout / 5);
        protocol.misuse_grace = std::chrono::milliseconds(read->misuse_grace_ms);
        protocol.recovery_window = std::chrono::milliseconds(read->recovery_window_ms);
        protocol.straggler_after = std::chrono::milliseconds(read->straggler_after_ms);
        protocol.remove_stragglers_after = std::chrono::milliseconds(read->remove_stragglers_after_ms);
        // Otherwise a straggler would be removed before the log names it.
        if (read->remove_stragglers_after_ms != 0)
            protocol.straggler_after = std::min(protocol.straggler_after, protocol.remove_stragglers_after);
        options.max_connections = read->max_connections;
        if (read->journal) options.journal = read->journal;
        return create(options, out);
    });
}

pcclResult_t pcclMasterGetPort(const pcclMasterInstance_t *master_instance, uint16_t *port_out) {
    return guarded([&] {
        if (!master_instance) return null_argument("pcclMasterGetPort", "master_instance");
        if (!port_out) return null_argument("pcclMasterGetPort", "port_out");
        *port_out = master_instance->server->address().port;
        return succeed();
    });
}

pcclResult_t pcclRunMaster(pcclMasterInstance_t *master_instance) {
    return guarded([&] {
        if (!master_instance) return null_argument("pcclRunMaster", "master_instance");
        if (master_instance->forked()) return fail_forked("pcclRunMaster");
        const std::lock_guard lock(master_instance->mutex);
        if (master_instance->phase == Phase::running)
            return fail(pcclInvalidUsage, "pcclRunMaster: the master is already running");
        if (master_instance->phase == Phase::ended)
            return fail(pcclInvalidUsage, "pcclRunMaster: the master has ended. Create another one");
        master_instance->thread = start_thread(*master_instance);
        master_instance->phase = Phase::running;
        master_instance->serving = true;
        return succeed();
    });
}

pcclResult_t pcclInterruptMaster(pcclMasterInstance_t *master_instance) {
    return guarded([&] {
        if (!master_instance) return null_argument("pcclInterruptMaster", "master_instance");
        if (master_instance->forked()) return fail_forked("pcclInterruptMaster");
        const std::lock_guard lock(master_instance->mutex);
        if (master_instance->phase != Phase::running)
            return fail(pcclInvalidUsage, "pcclInterruptMaster: the master is not running");
        master_instance->server->interrupt();
        return succeed();
    });
}

pcclResult_t pcclMasterAwaitTermination(pcclMasterInstance_t *master_instance) {
    return guarded([&] {
        if (!master_instance) return null_argument("pcclMasterAwaitTermination", "master_instance");
        if (master_instance->forked()) return fail_forked("pcclMasterAwaitTermination");
        std::unique_lock lock(master_instance->mutex);
        if (master_instance->phase == Phase::created)
            return fail(pcclInvalidUsage, "pcclMasterAwaitTermination: the master was never started. Call pcclRunMaster first");
        master_instance->served.wait(lock, [&] { return !master_instance->serving; });
        master_instance->phase = Phase::ended;
        return succeed();
    });
}

pcclResult_t pcclDestroyMaster(pcclMasterInstance_t *master_instance) {
    return guarded([&] {
        if (!master_instance) return null_argument("pcclDestroyMaster", "master_instance");
        if (master_instance->forked()) return succeed();  // the memory is kept, because the thread exists only in the parent
        if (master_instance->thread.joinable()) {
            master_instance->server->interrupt();
            master_instance->thread.join();
        }
        delete master_instance;
        return succeed();
    });
}
