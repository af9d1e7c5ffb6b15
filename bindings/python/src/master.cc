#include "master.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

#include "base/threads.h"

namespace pccl_python {

namespace {

/// A master that is being created, shared with the thread that makes it. Resolving the name in its listen
/// address can take long.
struct Making {
    pcclMasterConfig_t config{};
    std::string listen_address, journal;

    std::mutex mutex;
    std::condition_variable ended;
    bool done = false, given_up = false;
    pcclMasterInstance_t *master = nullptr;
    pcclResult_t result = pcclSuccess;
    std::string why;

    explicit Making(const pcclMasterConfig_t &wanted) : config(wanted), listen_address(wanted.listen_address) {
        config.listen_address = listen_address.c_str();
        if (!wanted.journal) return;
        journal = wanted.journal;
        config.journal = journal.c_str();
    }
    void make() {
        pcclMasterInstance_t *made = nullptr;
        const pcclResult_t outcome = pcclCreateMasterWithConfig(&config, &made);
        const std::lock_guard lock(mutex);
        if (given_up && outcome == pcclSuccess) (void)pcclDestroyMaster(made);
        master = made;
        result = outcome;
        if (outcome != pcclSuccess) why = pcclGetLastError();
        done = true;
        ended.notify_all();
    }
    /// Waits 20 ms at most. True: the creation has succeeded or failed.
    bool wait() {
        std::unique_lock lock(mutex);
        return ended.wait_for(lock, std::chrono::milliseconds(20), [this] { return done; });
    }
    void give_up() {
        const std::lock_guard lock(mutex);
        given_up = true;
        if (done && result == pcclSuccess) (void)pcclDestroyMaster(master);
    }
};

}  // namespace

/// Signal handlers run meanwhile. If one raises, the thread that creates the master frees it and ends by itself.
Master::Master(const pcclMasterConfig_t &config) {
    const auto making = std::make_shared<Making>(config);
    pccl::start_without_signals([making] { making->make(); }).detach();
    for (bool done = false; !done;) {
        {
            const nb::gil_scoped_release release;
            done = making->wait();
        }
        if (!done && PyErr_CheckSignals() != 0) {
            making->give_up();
            throw nb::python_error();
        }
    }
    if (making->result != pcclSuccess) raise(making->result, "pcclCreateMaster", making->why);
    master_ = making->master;
}

Master::~Master() { close(); }

void Master::run() {
    check_usable("pcclRunMaster");
    check(pcclRunMaster(master_), "pcclRunMaster");
    watcher_ = new std::thread(pccl::start_without_signals([this] {
        (void)pcclMasterAwaitTermination(master_);
        ended_ = true;
    }));
}

void Master::interrupt() {
    check_usable("pcclInterruptMaster");
    const pcclResult_t result = pcclInterruptMaster(master_);
    if (result == pcclSuccess) return;
    if (!watcher_) check(result, "pcclInterruptMaster");
}

int Master::port() const {
    check_usable("pcclMasterGetPort");
    std::uint16_t port = 0;
    check(pcclMasterGetPort(master_, &port), "pcclMasterGetPort");
    return port;
}

void Master::release() {
    if (watcher_) {
        (void)pcclInterruptMaster(master_);
        watcher_->join();
        delete watcher_;
    }
    (void)pcclDestroyMaster(master_);
}

namespace {

void milliseconds(std::uint32_t &field, std::optional<double> seconds, const char *name) {
    if (!seconds) return;
    if (!(*seconds >= 0 && *seconds < 4e6))
        throw nb::value_error((std::string(name) + " is out of range: give seconds from 0 to below 4e6").c_str());
    field = static_cast<std::uint32_t>(*seconds * 1000);
}

void make_master(Master *self, const std::string &listen_address, const std::optional<std::string> &journal,
                 std::optional<double> heartbeat_timeout, std::optional<double> misuse_grace,
                 std::optional<double> recovery_window, std::optional<double> straggler_after,
                 std::optional<double> remove_stragglers_after, std::optional<std::uint32_t> max_connections) {
    pcclMasterConfig_t config;
    (void)pcclMasterConfigInit(&config);
    config.listen_address = listen_address.c_str();
    if (journal) config.journal = journal->c_str();
    milliseconds(config.heartbeat_timeout_ms, heartbeat_timeout, "heartbeat_timeout");
    milliseconds(config.misuse_grace_ms, misuse_grace, "misuse_grace");
    milliseconds(config.recovery_window_ms, recovery_window, "recovery_window");
    milliseconds(config.straggler_after_ms, straggler_after, "straggler_after");
    milliseconds(config.remove_stragglers_after_ms, remove_stragglers_after, "remove_stragglers_after");
    if (max_connections) config.max_connections = *max_connections;
    new (self) Master(config);
}

}  // namespace

void bind_master(nb::module_ &module) {
    nb::class_<Master>(module, "Master")
        .def("__init__", &make_master, nb::arg("listen_address"), nb::arg("journal").none(), nb::arg("heartbeat_timeout").none(),
             nb::arg("misuse_grace").none(), nb::arg("recovery_window").none(), nb::arg("straggler_after").none(),
             nb::arg("remove_stragglers_after").none(), nb::arg("max_connections").none())
        .def("run", &Master::run)
        .def("interrupt", &Master::interrupt)
        .def("close", &Master::close)
        .def_prop_ro("closed", &Master::closed)
        .def_prop_ro("ended", &Master::ended)
        .def_prop_ro("port", &Master::port);
}

}  // namespace pccl_python
