#include "base/log.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <regex>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

namespace pccl {
namespace {

/// Redirects standard error to another file for its lifetime.
class StderrIs {
public:
    explicit StderrIs(int fd) : saved_(dup(STDERR_FILENO)) {
        if (fd < 0)
            close(STDERR_FILENO);
        else
            dup2(fd, STDERR_FILENO);
    }
    ~StderrIs() {
        dup2(saved_, STDERR_FILENO);
        close(saved_);
    }

private:
    int saved_;
};

/// The text that `body` writes to standard error.
template <class Body> std::string stderr_of(Body body) {
    std::FILE *file = std::tmpfile();
    {
        StderrIs redirected(fileno(file));
        body();
    }
    std::string out;
    std::rewind(file);
    for (int c; (c = std::fgetc(file)) != EOF;)
        out += static_cast<char>(c);
    std::fclose(file);
    return out;
}

class Log : public testing::Test {
protected:
    void SetUp() override { set_log_level(LogLevel::warn); }
    void TearDown() override { set_log_level(LogLevel::warn); }
};

TEST_F(Log, WritesOneLineWithTimeAndLevel) {
    const std::string line = stderr_of([] { PCCL_LOG_WARN("peer %d is %s", 7, "gone"); });
    EXPECT_TRUE(std::regex_match(line, std::regex(R"(\[pccl\] \d\d:\d\d:\d\d\.\d\d\d warn: peer 7 is gone\n)"))) << line;
}

TEST_F(Log, WritesNothingBelowItsLevel) {
    EXPECT_EQ(stderr_of([] { PCCL_LOG_INFO("quiet"); }), "");
    set_log_level(LogLevel::off);
    EXPECT_EQ(stderr_of([] { log(LogLevel::fatal, "quiet"); }), "");
    EXPECT_FALSE(log_enabled(LogLevel::off));
}

TEST_F(Log, DoesNotEvaluateArgumentsOfDisabledMessages) {
    int evaluated = 0;
    PCCL_LOG_DEBUG("%d", ++evaluated);
    EXPECT_EQ(evaluated, 0);
}

TEST_F(Log, LevelNamesInAnyCase) {
    EXPECT_TRUE(set_log_level("debug"));
    EXPECT_TRUE(log_enabled(LogLevel::debug));
    EXPECT_TRUE(set_log_level("Fatal"));
    EXPECT_FALSE(log_enabled(LogLevel::error));
    for (const char *name : {"", "verbose", "WARN ", "WAR", "0"})
        EXPECT_FALSE(set_log_level(name)) << name;
    EXPECT_TRUE(log_enabled(LogLevel::fatal));
    EXPECT_FALSE(log_enabled(LogLevel::error));
}

TEST_F(Log, ReplacesControlCharactersAndKeepsText) {
    const std::string line = stderr_of([] {
        PCCL_LOG_ERROR("%s", "a\nb\x1b[31mc\x7f\td\xc2\x9b"
                             "2J \xc3\xa9 {} %s");
    });
    EXPECT_NE(line.find("error: a?b?[31mc??d??2J \xc3\xa9 {} %s\n"), std::string::npos) << line;
}

TEST_F(Log, TruncatesLongMessages) {
    const std::string line = stderr_of([] { PCCL_LOG_ERROR("%s", std::string(100'000, 'x').c_str()); });
    EXPECT_LT(line.size(), 2100U);
    EXPECT_EQ(line.substr(line.size() - 5), "x...\n");
}

TEST_F(Log, KeepsErrno) {
    StderrIs closed(-1);
    errno = ENOENT;
    PCCL_LOG_ERROR("lost");
    EXPECT_EQ(errno, ENOENT);
}

TEST_F(Log, SurvivesAClosedStandardError) {
    StderrIs closed(-1);
    PCCL_LOG_ERROR("lost");
}

TEST_F(Log, SurvivesAReaderThatIsGoneAndLeavesNoSignal) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    close(ends[0]);
    {
        StderrIs broken(ends[1]);
        PCCL_LOG_ERROR("lost");
    }
    close(ends[1]);
    sigset_t pending;
    sigpending(&pending);
    EXPECT_FALSE(sigismember(&pending, SIGPIPE));
}

TEST_F(Log, LinesOfManyThreadsDoNotMix) {
    const std::string out = stderr_of([] {
        std::vector<std::thread> threads;
        for (int t = 0; t < 4; ++t)
            threads.emplace_back([t] {
                for (int i = 0; i < 50; ++i)
                    PCCL_LOG_WARN("%s", std::string(100, static_cast<char>('a' + t)).c_str());
            });
        for (auto &thread : threads)
            thread.join();
    });
    const std::regex whole(R"(\[pccl\] [\d:.]+ warn: (a{100}|b{100}|c{100}|d{100}))");
    std::size_t lines = 0;
    for (std::size_t at = 0; at < out.size(); ++lines) {
        const std::size_t end = out.find('\n', at);
        ASSERT_NE(end, std::string::npos);
        ASSERT_TRUE(std::regex_match(out.substr(at, end - at), whole)) << out.substr(at, end - at);
        at = end + 1;
    }
    EXPECT_EQ(lines, 200U);
}

// The environment is read at the first use, so each of these tests runs in a separate process.
void expect_level(const char *value, LogLevel lowest, const char *words) {
    testing::FLAGS_gtest_death_test_style = "threadsafe";
    if (value)
        setenv("PCCL_LOG_LEVEL", value, 1);
    else
        unsetenv("PCCL_LOG_LEVEL");
    EXPECT_EXIT(
        {
            const bool right = log_enabled(lowest) &&
                               (lowest == LogLevel::debug || !log_enabled(static_cast<LogLevel>(static_cast<int>(lowest) - 1)));
            std::_Exit(right ? 0 : 1);
        },
        testing::ExitedWithCode(0), words);
    unsetenv("PCCL_LOG_LEVEL");
}

class LogDeathTest : public testing::Test {};

TEST_F(LogDeathTest, EnvironmentSetsTheLevel) { expect_level("debug", LogLevel::debug, ""); }
TEST_F(LogDeathTest, DefaultIsWarn) { expect_level(nullptr, LogLevel::warn, ""); }
TEST_F(LogDeathTest, UnknownNameMeansWarnAndIsLogged) { expect_level("chatty", LogLevel::warn, "PCCL_LOG_LEVEL is not one of"); }

}  // namespace
}  // namespace pccl
