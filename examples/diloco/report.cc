#include "report.h"

#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace diloco {
namespace {

constexpr double kMegabyte = 1e6;

/// JSON has no NaN: a loss that left the numbers is null.
std::string json_number(double value) {
    if (!std::isfinite(value)) return "null";
    char text[32];
    std::snprintf(text, sizeof text, "%.6g", value);
    return text;
}

}  // namespace

Report::Report(const std::string &path) {
    if (path.empty()) return;
    file_ = path == "-" ? stdout : std::fopen(path.c_str(), "w");
    if (!file_) {
        throw std::runtime_error(path + ": " + std::strerror(errno));
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
    std::fprintf(
        stderr, "diloco: step %" PRIu64 "/%" PRIu64 "  world %d  loss %.4f  test %.2f %%  %.2f MB  comm %.3f s  compute %.3f s\n",
        r.step, steps, r.world, r.loss, 100.0 * r.accuracy, megabytes, r.communication_s, r.compute_s);
    if (!file_) return;
    std::fprintf(file_,
                 "{\"event\":\"step\",\"step\":%" PRIu64 ",\"world\":%d,\"joined\":%d,\"lost\":%d,\"loss\":%s,\"accuracy\":%s,"
                 "\"mb\":%s,\"comm_s\":%s,\"compute_s\":%s}\n",
                 r.step, r.world, r.joined, r.lost, json_number(r.loss).c_str(), json_number(r.accuracy).c_str(),
                 json_number(megabytes).c_str(), json_number(r.communication_s).c_str(), json_number(r.compute_s).c_str());
}

void Report::done(const FinalRecord &r) {
    std::fprintf(stderr, "diloco: done after step %" PRIu64 ": test %.2f %%, parameters %016" PRIx64 ", %s\n", r.step,
                 100.0 * r.accuracy, r.hash, r.identical ? "the same at all peers" : "NOT the same at all peers");
    if (!file_) return;
    std::fprintf(file_,
                 "{\"event\":\"done\",\"step\":%" PRIu64 ",\"world\":%d,\"accuracy\":%s,\"hash\":\"%016" PRIx64
                 "\",\"identical\":%s}\n",
                 r.step, r.world, json_number(r.accuracy).c_str(), r.hash, r.identical ? "true" : "false");
}

}  // namespace diloco
