// pccl-churn: trainers that die, stop and join at random against a live run.
#include "churn/conductor.h"
#include "churn/options.h"
#include "churn/trainer.h"

#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <random>

int main(int argc, char **argv) {
    pccl::churn::Options options;
    options.seed = std::random_device{}();
    CLI::App app{"Kills (-9), stops and replaces trainers of a live run at random, and checks every sum.\n"
                 "Exit status 0 if there was no hang (20 s without a step), no wrong sum and no crash.",
                 "pccl-churn"};
    app.add_option("--minutes", options.minutes, "how long")->check(CLI::PositiveNumber)->capture_default_str();
    app.add_option("--peers", options.peers, "trainers at a time")->check(CLI::Range(3, 60))->capture_default_str();
    app.add_option("--seed", options.seed, "seed of the actions; printed at the end");
    app.add_flag("--master-process", options.master_process, "run the master in a separate process");
    app.add_option("--heartbeat-timeout-ms", options.heartbeat_timeout_ms, "silence after which a trainer is removed")
        ->capture_default_str();
    app.add_option("--trainer", options.trainer_master, "run as a trainer of this master")->group("");
    app.add_option("--slot", options.slot)->group("");
    app.add_option("--master-limit-ms", options.master_limit_ms)->group("");
    app.add_flag("--serve-master", options.serve_master)->group("");
    CLI11_PARSE(app, argc, argv);
    try {
        if (!options.trainer_master.empty()) return pccl::churn::run_trainer(options);
        if (options.serve_master) return pccl::churn::serve_master(options);
        return pccl::churn::conduct(options);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "pccl-churn: %s\n", error.what());
        return 2;
    }
}
