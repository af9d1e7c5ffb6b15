// Each scenario of scenarios/*.txt produces the transcript that is stored in its file. After an intended change of the protocol,
// regenerate the files with PCCL_SIM_REGENERATE=1 and read the difference.
#include "scenario.h"

#include <filesystem>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sstream>

namespace pccl::sim {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> scenarios() {
    std::vector<std::string> names;
    for (const auto &entry : fs::directory_iterator(SCENARIOS)) {
        if (entry.path().extension() == ".txt") names.push_back(entry.path().stem().string());
    }
    std::ranges::sort(names);
    return names;
}

class Scenarios : public testing::TestWithParam<std::string> {};

TEST_P(Scenarios, TranscriptIsUnchanged) {
    const fs::path path = fs::path(SCENARIOS) / (GetParam() + ".txt");
    std::stringstream written;
    written << std::ifstream(path).rdbuf();
    const std::string happened = run_scenario(written.str());
    EXPECT_THAT(happened, testing::Not(testing::HasSubstr("VIOLATED")));
    if (std::getenv("PCCL_SIM_REGENERATE"))
        std::ofstream(path) << happened;
    else
        EXPECT_EQ(happened, written.str()) << "the head of this test explains how to regenerate it";
}

INSTANTIATE_TEST_SUITE_P(All, Scenarios, testing::ValuesIn(scenarios()), [](const auto &test) { return test.param; });

}  // namespace
}  // namespace pccl::sim
