// How the end of a local program is read:
//   exit 0                                   it worked, if its outputs are there
//   64 (EX_USAGE), 65 (EX_DATAERR), 66, and
//   what the task lists as invalid_exits     invalid_input: the program blames what it was given (sysexits.h)
//   77, 78, 126, 127, or it cannot start     misconfigured
//   SIGXFSZ; too much output, memory, disk   bad_output: it would do so again
//   SIGXCPU, deadline                        timeout
//   too many processes                       bad_output: killed where only our watch bounds them; where the
//                                            kernel does, it is refused more, goes on, and fails saying so
//   any other status or signal               transient
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "provider/process.h"
#include "provider/provider.h"

namespace turnpike::provider {

// A refusal of ours before anything ran.
Failure refused_try(const Error& error);

// The last lines of what a program said on standard error, for the user, behind ": "; empty if it said
// nothing. Paths are cut to their last name.
std::string last_words(const std::string& error);

// nullopt: the program worked. `bounded`: the kernel bounds its processes.
std::optional<Outcome> judge_end(const std::string& program, const ProcessReport& report,
                                 const policy::ExecTask& limits, bool bounded);

// Whether these are the words of those that lead into the sandbox: the program has not run.
bool did_not_start(const ProcessReport& report);
Outcome sandbox_failed(const std::string& program, const ProcessReport& report);

// A program as messages call it.
std::string program_name(const std::string& program);

// All that a program finds in its environment. `marker`: NAME=value.
std::vector<std::string> program_environment(const std::string& home, const std::string& marker);

}  // namespace turnpike::provider
