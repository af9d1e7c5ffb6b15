#include "report.h"

#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace diloco {
namespace {

constexpr double kMegabyte = 1e6;

/// JSON has no NaN and no infinity, so a loss that is not finite is written as null.
std::string json_number(double value) {
    if (!std::isfinite(value)) return "null";
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

std::string json_number(const std::optional<double> &value) { return value ? json_number(*value) : "null"; }

}  // namespace

Report::Report(const std::string &path) {
    if (path.empty()) return;
    file_ = path == "-" ? stdout : std::fopen(path.c_str(), "we");
    if (!file_) {
        throw std::runtime_error("cannot open the report file " + path + ": " + std::strerror(errno));
    }
    std::setvbuf(file_, nullptr, _IOLBF, BUFSIZ);
}

Report::~Report() {
    if (file_ && file_ != stdout) std::fclose(file_);
}

void Report::joined(std::uint64_t step, int world) {
    std::fprintf(stderr, "diloco: joined at step %" PRIu64 ", world size %d\n", step, world);
    if (file_) std::fprintf(file_, "{\"event\":\"joined\",\"step\":%" PRIu64 ",\"world\":%d}\n", step, world);
}

void Report::step(const StepRecord &r, std::uint64_t steps) {
    const double megabytes = static_cast<double>(r.tx_bytes + r.rx_bytes) / kMegabyte;
    char test[32] = "";
    if (r.accuracy) std::snprintf(test, sizeof test, "  test %.2f %%", 100.0 * *r.accuracy);
    std::fprintf(stderr, "diloco: step %" PRIu64 "/%" PRIu64 "  world %d  loss %.4f%s  %.2f MB  comm %.3f s  compute %.3f s\n",
                 r.step, steps, r.world, r.loss, test, megabytes, r.communication_s, r.compute_s);
    if (!file_) return;
    std::fprintf(file_,
                 "{\"event\":\"step\",\"step\":%" PRIu64 ",\"inner_steps\":%" PRIu64 ",\"outer_steps\":%" PRIu64
                 ",\"world\":%d,\"joined\":%d,\"lost\":%d,\"received\":%s,\"rejoined\":%s,\"loss\":%s,\"accuracy\":%s,"
                 "\"mb\":%s,\"tx_bytes\":%" PRIu64 ",\"comm_s\":%s,\"under_way_s\":%s,\"compute_s\":%s,\"time_s\":%s,"
                 "\"penalty\":%s,\"digest\":\"%016" PRIx64 "\",\"distance\":%s}\n",
                 r.step, r.inner_steps, r.outer_steps, r.world, r.joined, r.lost, r.received ? "true" : "false",
                 r.rejoined ? "true" : "false", json_number(r.loss).c_str(), json_number(r.accuracy).c_str(),
                 json_number(megabytes).c_str(), r.tx_bytes, json_number(r.communication_s).c_str(),
                 json_number(r.under_way_s).c_str(), json_number(r.compute_s).c_str(), json_number(r.time_s).c_str(),
                 json_number(r.penalty).c_str(), r.digest, json_number(r.distance).c_str());
}

void Report::done(const FinalRecord &r) {
    std::string verdict = r.identical ? "equal at all peers" : "NOT equal at all peers";
    std::optional<double> distance, mean_accuracy;
    if (r.spread) {
        distance = r.spread->distance;
        mean_accuracy = r.spread->mean_accuracy;
        char text[128];
        std::snprintf(text, sizeof text, "of this peer only; distance between models %.4f, mean of %d models: test %.2f %%",
                      *distance, r.world, 100.0 * *mean_accuracy);
        verdict = text;
    }
    std::fprintf(stderr, "diloco: done after step %" PRIu64 ": test %.2f %%, outer state %016" PRIx64 ", %s\n", r.step,
                 100.0 * r.accuracy, r.hash, verdict.c_str());
    if (!file_) return;
    const char *identical = r.spread ? "null" : r.identical ? "true" : "false";
    std::fprintf(file_,
                 "{\"event\":\"done\",\"step\":%" PRIu64 ",\"world\":%d,\"accuracy\":%s,\"hash\":\"%016" PRIx64
                 "\",\"identical\":%s,\"distance\":%s,\"mean_accuracy\":%s}\n",
                 r.step, r.world, json_number(r.accuracy).c_str(), r.hash, identical, json_number(distance).c_str(),
                 json_number(mean_accuracy).c_str());
}

}  // namespace diloco
