#include "harness/master_process.h"

#include "harness/world.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include <unistd.h>

namespace pccl::itest {

MasterProcess::MasterProcess(std::vector<std::string> options) : options_(std::move(options)), port_(free_port()) {
    std::string pattern = (std::filesystem::temp_directory_path() / "pccl-master-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot create a folder for a master");
    folder_ = pattern;
    journal_ = folder_ + "/journal";
    start();
}

MasterProcess::~MasterProcess() {
    kill();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
}

std::string MasterProcess::log() const {
    std::ifstream file(folder_ + "/log");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

void MasterProcess::start() {
    std::vector<std::string> argv = {std::filesystem::path(tools::self_path()).parent_path() / "pccl-master",
                                     "--listen",
                                     address(),
                                     "--journal",
                                     journal(),
                                     "--log-level",
                                     "INFO"};
    argv.insert(argv.end(), options_.begin(), options_.end());
    child_ = tools::Child::spawn(argv, {.capture_stdout = true, .pipe_stdin = false, .stderr_file = folder_ + "/log"});
    char line = 0;
    while (::read(child_.output(), &line, 1) == 1) {
        if (line == '\n') return;  // pccl-master prints a line once it serves
    }
    throw std::runtime_error("pccl-master did not start: " + log());
}

void MasterProcess::kill() {
    if (!child_.running()) return;
    child_.signal(9);
    child_.wait();
}

}  // namespace pccl::itest
