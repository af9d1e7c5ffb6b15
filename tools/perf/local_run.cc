// The parent of a local run. It starts and reaps the peers, and the first peer prints the results.
#include "perf/local_run.h"

#include "common/child.h"
#include "common/handles.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <sys/wait.h>
#include <vector>

namespace pccl::perf {

namespace {

/// The arguments that the children share: those of this process without the number of peers, which they receive in other options.
std::vector<std::string> shared_arguments(int argc, char **argv) {
    std::vector<std::string> out;
    for (int i = 1; i < argc; ++i) {
        const std::string_view word = argv[i];
        if (word == "-t" || word == "--local-peers")
            ++i;
        else if (!word.starts_with("--local-peers=") && !(word.starts_with("-t") && !word.starts_with("--")))
            out.emplace_back(word);
    }
    return out;
}

}  // namespace

int run_local(const Options &options, int argc, char **argv) {
    tools::require("pcclInit", pcclInit());
    pcclMasterConfig_t config{};
    tools::require("pcclMasterConfigInit", pcclMasterConfigInit(&config));
    config.listen_address = "127.0.0.1:0";
    const tools::Master master = tools::Master::start(config);

    std::vector<std::string> arguments = {tools::self_path()};
    for (std::string &argument : shared_arguments(argc, argv))
        arguments.push_back(std::move(argument));
    const std::string address = "127.0.0.1:" + std::to_string(master.port);
    for (const std::string &word : {std::string("--master"), address, std::string("--peers"), std::to_string(options.peers),
                                    std::string("--index"), std::string()}) {
        arguments.push_back(word);
    }
    std::vector<tools::Child> children;
    for (int index = 0; index < options.peers; ++index) {
        arguments.back() = std::to_string(index);
        children.push_back(tools::Child::spawn(arguments));
    }
    int worst = 0;
    for (std::size_t index = 0; index < children.size(); ++index) {
        const int status = *children[index].wait();
        if (WIFEXITED(status) && WEXITSTATUS(status) <= 2) {
            worst = std::max(worst, WEXITSTATUS(status));  // the child has printed the reason
            continue;
        }
        std::fprintf(stderr, "pccl-perf: peer %zu %s\n", index, tools::describe_status(status).c_str());
        worst = 2;
    }
    return worst;
}

}  // namespace pccl::perf
