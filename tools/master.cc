// pccl-master: the membership service of one run. It runs until a signal ends it.
//
// When it is ready it prints one line with its address on standard output, so that scripts can wait for it. The log goes to
// standard error. Under the name ccoip_master, the name of version 1's program, it keeps no journal unless --journal names one.
#include <pccl/pccl.h>

#include "api/listen_address.h"
#include "base/time.h"

#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include <strings.h>
#include <time.h>

namespace {

constexpr int kExitFailure = 1;
constexpr int kExitUsage = 64;
constexpr const char *kExamples = R"(
Examples:
  pccl-master                                  all IPv4 addresses, port 48148
  pccl-master --listen 127.0.0.1:0             any free port of this machine; read it from standard output
  pccl-master --listen '[::]:48148'            IPv6 and IPv4
  pccl-master --listen '[fe80::1%eth0]:48148'  a link-local address with its interface
  pccl-master --heartbeat-timeout 3s --log-level debug
  pccl-master --journal /var/lib/pccl/run7     keep the journal of the run in this file
  pccl-master --journal new                    begin a new run; an existing journal is renamed, not deleted
  pccl-master --no-journal                     the run ends with this process

When it is ready it prints one line:  pccl-master: listening on 127.0.0.1:48148
It ends on SIGINT (Ctrl-C) or SIGTERM. If it is started again with the same journal, even after a crash, it continues the run.
Peers wait for it (ten minutes by default), and their operations continue meanwhile. Without a journal the run ends with the
process.
The default journal is master-48148.journal (with the port in its name) in the first of these directories: $STATE_DIRECTORY,
$XDG_STATE_HOME/pccl, ~/.local/state/pccl. There is no default journal if the port is 0 or the program is started as
ccoip_master.
If the default journal cannot be written, the master prints a warning and keeps none. If FILE cannot be written, it exits.
Durations are written 500ms, 10s, 2m.
Exit status: 0 after SIGINT or SIGTERM, 1 if it cannot serve, 64 for an error in the command line.
)";

constexpr const char *kVersion1Name = "ccoip_master";

struct Options {
    std::string listen = "0.0.0.0:48148";
    std::string log_level = "INFO";
    std::string heartbeat_timeout = "10s";
    std::string misuse_grace = "10s";
    std::string recovery_window = "10s";
    std::string journal;
    bool no_journal = false;
    std::string straggler_after = "10s";
    std::string remove_stragglers_after;  ///< empty: never
    std::uint32_t max_connections = 8192;
};

/// Returns the default path of the journal, or "" if a restarted master would not find it again.
std::string default_journal(std::uint16_t port) {
    if (port == 0) return "";
    const auto variable = [](const char *name) {
        const char *value = std::getenv(name);
        return std::string(value ? value : "");
    };
    const std::string file = "/master-" + std::to_string(port) + ".journal";
    if (const auto folder = variable("STATE_DIRECTORY"); !folder.empty()) return folder.substr(0, folder.find(':')) + file;
    if (const auto folder = variable("XDG_STATE_HOME"); !folder.empty()) return folder + "/pccl" + file;
    if (const auto home = variable("HOME"); !home.empty()) return home + "/.local/state/pccl" + file;
    return "";
}

/// Returns the journal setting of the library: "", PATH or new:PATH. Nullopt: "new" was requested and there is no default path.
std::optional<std::string> journal_of(const Options &options, std::uint16_t port) {
    if (options.no_journal) return "";
    if (!options.journal.empty() && options.journal != "new") return options.journal;
    const std::string place = default_journal(port);
    if (options.journal.empty()) return place;
    return place.empty() ? std::nullopt : std::optional("new:" + place);
}

std::string version() {
    int number = 0;
    static_cast<void>(pcclGetVersion(&number));
    return "pccl-master " + std::to_string(number / 10000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100);
}

std::string check_duration(const std::string &text) {
    const auto duration = pccl::parse_duration(text);
    const bool fits = duration && *duration >= std::chrono::milliseconds(1) &&
                      *duration <= std::chrono::milliseconds(std::numeric_limits<std::uint32_t>::max());
    return fits ? "" : "'" + text + "' is not a duration. Write for example 500ms, 10s or 2m";
}

std::uint32_t milliseconds_of(const std::string &text) {
    return static_cast<std::uint32_t>(pccl::parse_duration(text).value_or(pccl::Duration{}).count() / 1000);
}

/// Returns whether the log level includes warnings: DEBUG, INFO or WARN.
bool shows_warnings(const Options &options) {
    for (const char *level : {"DEBUG", "INFO", "WARN"}) {
        if (strcasecmp(options.log_level.c_str(), level) == 0) return true;
    }
    return false;
}

void warn_of_no_journal(const Options &options, const std::string &why) {
    if (!shows_warnings(options)) return;
    std::fprintf(stderr,
                 "pccl-master: warning: no journal is kept: %s. The run will end with this process. Pass --journal FILE or set "
                 "XDG_STATE_HOME to a directory that this user can write, or pass --no-journal\n",
                 why.c_str());
}

/// Creates the master. If this user cannot write the default journal, as in a container, the run has no journal. Every other
/// problem with a journal is an error: damaged, in use, or a FILE that cannot be written.
pcclResult_t create(const Options &options, const std::string &journal, pcclMasterConfig_t &config, pcclMasterInstance_t **out) {
    const bool is_default = options.journal.empty() && !options.no_journal;
    if (!journal.empty()) config.journal = journal.c_str();
    const pcclResult_t result = pcclCreateMasterWithConfig(&config, out);
    if (result != pcclInternalError || !is_default || journal.empty()) return result;
    const std::string why = pcclGetLastError();
    config.journal = nullptr;
    const pcclResult_t without = pcclCreateMasterWithConfig(&config, out);
    if (without == pcclSuccess) warn_of_no_journal(options, why);
    return without;
}

/// Prints the text of the library's last failure.
int failed() {
    std::fprintf(stderr, "pccl-master: %s\n", pcclGetLastError());
    return kExitFailure;
}

struct Destroy {
    void operator()(pcclMasterInstance_t *master) const { static_cast<void>(pcclDestroyMaster(master)); }
};

int serve(const Options &options) {
    // Blocked before any thread exists, so that only sigwait below takes these signals. SIGPIPE is ignored, because a closed
    // standard output must not end the service.
    sigset_t ending;
    sigemptyset(&ending);
    sigaddset(&ending, SIGINT);
    sigaddset(&ending, SIGTERM);
    sigprocmask(SIG_BLOCK, &ending, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    setenv("PCCL_LOG_LEVEL", options.log_level.c_str(), 1);

    // A name server may not answer for a long time. A signal ends the program meanwhile.
    int signal = 0;
    auto listen = pccl::api::parse_listen_address(options.listen, [&] {
        const timespec now{};
        signal = sigtimedwait(&ending, nullptr, &now);
        return signal > 0;
    });
    if (signal > 0) return 0;
    if (!listen) {
        std::fprintf(stderr, "pccl-master: --listen %s\n", listen.error().what.c_str());
        return kExitFailure;
    }
    const std::string address = to_string(*listen);
    pcclMasterConfig_t config;
    static_cast<void>(pcclMasterConfigInit(&config));
    config.listen_address = address.c_str();
    config.heartbeat_timeout_ms = milliseconds_of(options.heartbeat_timeout);
    config.misuse_grace_ms = milliseconds_of(options.misuse_grace);
    config.straggler_after_ms = milliseconds_of(options.straggler_after);
    if (!options.remove_stragglers_after.empty())
        config.remove_stragglers_after_ms = milliseconds_of(options.remove_stragglers_after);
    config.max_connections = options.max_connections;
    config.recovery_window_ms = milliseconds_of(options.recovery_window);
    const auto journal = journal_of(options, listen->port);
    if (!journal) {
        std::fprintf(stderr, "pccl-master: --journal new: there is no default journal, because the port is 0 or HOME is not set. "
                             "Write --journal new:FILE\n");
        return kExitUsage;
    }
    pcclMasterInstance_t *handle = nullptr;
    if (create(options, *journal, config, &handle) != pcclSuccess) return failed();
    if (journal->empty() && !options.no_journal && listen->port != 0)
        warn_of_no_journal(options, "there is no default path, because HOME is not set");
    const std::unique_ptr<pcclMasterInstance_t, Destroy> master(handle);
    if (pcclMasterGetPort(handle, &listen->port) != pcclSuccess) return failed();
    if (pcclRunMaster(handle) != pcclSuccess) return failed();
    std::printf("pccl-master: listening on %s\n", to_string(*listen).c_str());
    std::fflush(stdout);

    sigwait(&ending, &signal);
    if (strcasecmp(options.log_level.c_str(), "INFO") == 0 || strcasecmp(options.log_level.c_str(), "DEBUG") == 0)
        std::fprintf(stderr, "pccl-master: stopping (%s)\n", signal == SIGINT ? "SIGINT" : "SIGTERM");
    if (pcclInterruptMaster(handle) != pcclSuccess) return failed();
    if (pcclMasterAwaitTermination(handle) != pcclSuccess) return failed();
    return 0;
}

}  // namespace

int main(int argc, char **argv) {
    // A broken invariant ends the master, which continues the run from its journal when it is started again.
    setenv("PCCL_ASSERTIONS", "abort", 0);
    if (pcclInit() != pcclSuccess) return failed();  // first: it opens the standard descriptors that are closed
    Options options;
    if (const char *level = std::getenv("PCCL_LOG_LEVEL"); level && *level) options.log_level = level;
    const std::string invoked = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "";
    CLI::App app{"Keeps the membership of one run of PCCL peers. It never receives their data.", "pccl-master"};
    app.footer(kExamples);
    app.set_version_flag("--version", version());
    app.add_option("--listen", options.listen, "HOST:PORT, :PORT or [IPv6]:PORT; port 0 chooses a free port")
        ->type_name("ADDRESS")
        ->capture_default_str();
    app.add_option("--log-level", options.log_level, "lowest level that is logged; default: PCCL_LOG_LEVEL, otherwise INFO")
        ->type_name("LEVEL")
        ->transform(CLI::IsMember({"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"}, CLI::ignore_case))
        ->capture_default_str();
    app.add_option("--heartbeat-timeout", options.heartbeat_timeout, "remove a peer that is silent for longer")
        ->type_name("DURATION")
        ->check(check_duration)
        ->capture_default_str();
    app.add_option("--misuse-grace", options.misuse_grace, "fail calls that can never meet after this time")
        ->type_name("DURATION")
        ->check(check_duration)
        ->capture_default_str();
    auto *journal = app.add_option("--journal", options.journal,
                                   "file from which a restarted master continues the run; new or new:FILE begins a new run")
                        ->type_name("FILE");
    app.add_flag("--no-journal", options.no_journal, "keep no journal: the run ends with this process")->excludes(journal);
    app.add_option("--recovery-window", options.recovery_window,
                   "members that have not returned after this time are lost (after a restart)")
        ->type_name("DURATION")
        ->check(check_duration)
        ->capture_default_str();
    app.add_option("--straggler-after", options.straggler_after,
                   "name a peer in the log if half of the others wait for it longer than this")
        ->type_name("DURATION")
        ->check(check_duration)
        ->capture_default_str();
    app.add_option("--remove-stragglers-after", options.remove_stragglers_after, "and remove it after this time; default: never")
        ->type_name("DURATION")
        ->check(check_duration);
    app.add_option("--max-connections", options.max_connections,
                   "limit of open connections, from peers and unauthenticated clients together")
        ->type_name("COUNT")
        ->check(CLI::Range(1, 1000000))
        ->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError &error) {
        return app.exit(error) == 0 ? 0 : kExitUsage;
    }
    // A script written for version 1 may use the same port for several runs in sequence. It expects each run to begin empty.
    if (invoked == kVersion1Name && options.journal.empty()) options.no_journal = true;
    try {
        return serve(options);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "pccl-master: %s\n", error.what());
        return kExitFailure;
    }
}
