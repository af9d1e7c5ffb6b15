#include "master.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <csignal>

namespace pccl_python {

Master::Master(const pcclMasterConfig_t &config) { check(pcclCreateMasterWithConfig(&config, &master_), "pcclCreateMaster"); }

Master::~Master() { close(); }

void Master::run() {
    check_usable("pcclRunMaster");
    check(pcclRunMaster(master_), "pcclRunMaster");
    sigset_t all, before;  // signals are for the interpreter's threads
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    watcher_ = new std::thread([this] {
        (void)pcclMasterAwaitTermination(master_);
        ended_ = true;
    });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
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
        throw nb::value_error((std::string(name) + " is no sensible number of seconds").c_str());
    field = static_cast<std::uint32_t>(*seconds * 1000);
}

void make_master(Master *self, const std::string &listen_address, const std::optional<std::string> &journal,
                 std::optional<double> heartbeat_timeout, std::optional<double> misuse_grace,
                 std::optional<double> recovery_window, std::optional<double> straggler_after,
                 std::optional<double> remove_stragglers_after) {
    pcclMasterConfig_t config;
    (void)pcclMasterConfigInit(&config);
    config.listen_address = listen_address.c_str();
    if (journal) config.journal = journal->c_str();
    milliseconds(config.heartbeat_timeout_ms, heartbeat_timeout, "heartbeat_timeout");
    milliseconds(config.misuse_grace_ms, misuse_grace, "misuse_grace");
    milliseconds(config.recovery_window_ms, recovery_window, "recovery_window");
    milliseconds(config.straggler_after_ms, straggler_after, "straggler_after");
    milliseconds(config.remove_stragglers_after_ms, remove_stragglers_after, "remove_stragglers_after");
    new (self) Master(config);
}

}  // namespace

void bind_master(nb::module_ &module) {
    nb::class_<Master>(module, "Master")
        .def("__init__", &make_master, nb::arg("listen_address"), nb::arg("journal").none(), nb::arg("heartbeat_timeout").none(),
             nb::arg("misuse_grace").none(), nb::arg("recovery_window").none(), nb::arg("straggler_after").none(),
             nb::arg("remove_stragglers_after").none())
        .def("run", &Master::run)
        .def("interrupt", &Master::interrupt)
        .def("close", &Master::close)
        .def_prop_ro("closed", &Master::closed)
        .def_prop_ro("ended", &Master::ended)
        .def_prop_ro("port", &Master::port);
}

}  // namespace pccl_python
