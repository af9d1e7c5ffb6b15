// Runs a scenario: commands that cause small events one after the other, in a world without chance. The messages between peers
// and master become the transcript.
//
//   new a [group=G]           starts a process "a"
//   connect|update|ask|optimize a b ...    these processes make this call
//   reduce TAG a b ... [wrong=b]           these call an all-reduce; the one named by `wrong` describes another operation
//   sync a=REVISION/CONTENT,CONTENT b=...  these synchronize the shared state that is given
//   await                     lets 500 ms pass: everything happens that does not wait for a timeout
//   run 300ms                 lets that much time pass
//   hold|release a            a hangs, and resumes
//   kill a | silence a | abort a | leave a
//   part a b                  a cannot dial b
//   break a b                 the link between a and b breaks
//   swallow a b               bulk data from a to b is lost from now on
//   modify a tag=TAG          the program of a writes to the buffer of its open operation with that tag
//   modify a tensor=INDEX     the program of a writes to a tensor that it has offered
//   restart 200ms [N]         the process of the master dies, or dies after N effects of its next step that has more; a new one
//                             starts after that time
//   quiet | loud              the lines that follow are left out, are printed
#pragma once

#include <string>

namespace pccl::sim {

/// `text`: the scenario with or without a transcript. Lines that begin with "> " are commands, and lines that begin with "#" are
/// comments. All other lines are the previous transcript and are replaced. Throws std::runtime_error at an unknown command.
std::string run_scenario(const std::string &text);

}  // namespace pccl::sim
