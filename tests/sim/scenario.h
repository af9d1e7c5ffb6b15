// Runs a scenario: commands that make small things happen, one after the other, in a world without chance; what is said between
// peers and master becomes the transcript.
//
//   new a [group=G]           a process "a"
//   connect|update|ask|optimize a b ...    these call
//   reduce TAG a b ... [wrong=b]           the wrong one reduces something else
//   sync a=REVISION/CONTENT,CONTENT b=...  these call, with what they hold
//   await                     let everything happen that can; "quiet" scenes print nothing
//   run 300ms                 let so much time pass
//   hold|release a            a hangs, and resumes
//   kill a | silence a | abort a | leave a
//   part a b                  a cannot dial b
//   break a b                 their link breaks
//   quiet | loud              whether what follows is printed
#pragma once

#include <string>

namespace pccl::sim {

/// `text`: the scenario with or without a transcript. Lines that begin with "> " are commands and those with "#" comments; all
/// others are what happened before and are replaced. Throws std::runtime_error at a command that is none.
std::string run_scenario(const std::string &text);

}  // namespace pccl::sim
