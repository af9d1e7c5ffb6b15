// The log behind base/log.h. spdlog formats, and StderrSink writes: if standard error is closed or its reader is gone, a log line
// must neither fail the library nor end the process with SIGPIPE.
#define SPDLOG_LEVEL_NAMES                                                                                                       \
    { "trace", "debug", "info", "warn", "error", "fatal", "off" }

#include "base/log.h"

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

namespace pccl {
namespace {

constexpr std::size_t kMaxMessage = 2048;
constexpr std::array<std::string_view, 6> kNames{"DEBUG", "INFO", "WARN", "ERROR", "FATAL", "OFF"};

/// Blocks SIGPIPE for this thread during its lifetime, and discards the signal that its own writes caused.
class NoSigpipe {
public:
    NoSigpipe() {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        sigset_t pending;
        sigpending(&pending);
        was_pending_ = sigismember(&pending, SIGPIPE) == 1;
        pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
    }
    ~NoSigpipe() {
        const timespec now{};
        if (!was_pending_)
            while (sigtimedwait(&pipe_, nullptr, &now) == -1 && errno == EINTR) {
            }
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    NoSigpipe(const NoSigpipe &) = delete;
    NoSigpipe &operator=(const NoSigpipe &) = delete;

private:
    sigset_t pipe_, before_;
    bool was_pending_ = false;
};

/// One write per line, so that lines of several processes on one terminal do not mix. Lines that cannot be written are lost.
class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
    void sink_it_(const spdlog::details::log_msg &message) override {
        spdlog::memory_buf_t line;
        formatter_->format(message, line);
        const NoSigpipe guard;
        const char *at = line.data();
        for (std::size_t left = line.size(); left > 0;) {
            const ssize_t written = ::write(STDERR_FILENO, at, left);
            if (written < 0 && errno == EINTR) continue;
            if (written <= 0) return;
            at += written;
            left -= static_cast<std::size_t>(written);
        }
    }
    void flush_() override {}
};

spdlog::level::level_enum to_spdlog(LogLevel level) {
    switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warn: return spdlog::level::warn;
    case LogLevel::error: return spdlog::level::err;
    case LogLevel::fatal: return spdlog::level::critical;
    case LogLevel::off: break;
    }
    return spdlog::level::off;
}

/// Never destroyed: threads may log while the process exits.
spdlog::logger &logger() {
    static spdlog::logger &instance = [&]() -> spdlog::logger & {
        auto &made = *new spdlog::logger("pccl", std::make_shared<StderrSink>());
        made.set_pattern("[pccl] %H:%M:%S.%e %l: %v");
        made.set_level(spdlog::level::trace);
        made.set_error_handler([](const std::string &) {});
        return made;
    }();
    return instance;
}

void write_line(LogLevel level, std::string_view message) {
    const int saved_errno = errno;
    try {
        logger().log(to_spdlog(level), spdlog::string_view_t(message.data(), message.size()));
    } catch (...) {  // out of memory: the message is lost
    }
    errno = saved_errno;
}

/// Replaces characters that could control a terminal: C0 controls, DEL, and C1 controls in UTF-8.
void make_printable(char *text, std::size_t length) {
    for (std::size_t i = 0; i < length; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        const auto next = static_cast<unsigned char>(i + 1 < length ? text[i + 1] : 0);
        if (byte == 0xc2 && next >= 0x80 && next < 0xa0)
            text[i] = text[i + 1] = '?';
        else if (byte < 0x20 || byte == 0x7f)
            text[i] = '?';
    }
}

std::optional<LogLevel> level_named(std::string_view name) {
    const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
    for (std::size_t level = 0; level < kNames.size(); ++level) {
        bool equal = name.size() == kNames[level].size();
        for (std::size_t i = 0; equal && i < name.size(); ++i)
            equal = upper(name[i]) == kNames[level][i];
        if (equal) return static_cast<LogLevel>(level);
    }
    return std::nullopt;
}

LogLevel level_of_environment() {
    const char *name = std::getenv("PCCL_LOG_LEVEL");
    if (!name || !*name) return LogLevel::warn;
    if (const auto level = level_named(name)) return *level;
    write_line(LogLevel::warn, "PCCL_LOG_LEVEL is not one of DEBUG, INFO, WARN, ERROR, FATAL, OFF. The level is WARN");
    return LogLevel::warn;
}

std::atomic<LogLevel> &threshold() {
    static std::atomic<LogLevel> level{level_of_environment()};
    return level;
}

}  // namespace

bool set_log_level(std::string_view name) {
    const auto level = level_named(name);
    if (level) set_log_level(*level);
    return level.has_value();
}

void set_log_level(LogLevel level) { threshold().store(level, std::memory_order_relaxed); }

bool log_enabled(LogLevel level) { return level != LogLevel::off && level >= threshold().load(std::memory_order_relaxed); }

void log(LogLevel level, const char *format, ...) {
    if (!log_enabled(level)) return;
    std::array<char, kMaxMessage> text;
    va_list arguments;
    va_start(arguments, format);
    const int wanted = std::vsnprintf(text.data(), text.size(), format, arguments);
    va_end(arguments);
    if (wanted < 0) return;
    std::size_t length = static_cast<std::size_t>(wanted);
    if (length >= text.size()) {
        length = text.size() - 1;
        for (std::size_t i = 1; i <= 3; ++i)
            text[length - i] = '.';
    }
    make_printable(text.data(), length);
    write_line(level, {text.data(), length});
}

}  // namespace pccl
