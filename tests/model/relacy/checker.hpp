// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Runs code that is a template over its atomics under Relacy, which tries interleavings and, for each load, every value that
// the C++ memory model allows. Included last: Relacy puts macros where words of the language were.

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>

// Relacy fails to say what it needs itself.
#include <cstdint>
#include <cstring>
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wpedantic"
#include <relacy/relacy.hpp>
#pragma GCC diagnostic pop
#undef new
#undef delete
#undef malloc
#undef calloc
#undef realloc
#undef free
#undef assert
#undef errno

namespace checker {

/// Where a thread sleeps: an eventfd. What is signalled once wakes once, at once if it was signalled before.
class sleeping_place {
public:
    void open() { event_.init(false, false, RL_INFO); }
    void close() { event_.deinit(RL_INFO); }
    void signal() {
        ++signals;
        event_.set(RL_INFO);
    }
    void sleep() {
        ++sleeps;
        event_.wait(false, false, RL_INFO);
    }
    unsigned signals = 0, sleeps = 0;

private:
    rl::generic_event event_;
};

/// Tries tests, each in so many interleavings, and says what came of it.
class verdicts {
public:
    verdicts(int argc, char** argv) : interleavings_(argc > 1 ? static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)) : 200'000) {}

    template <class Test>
    void is_well(const std::string& what) {
        const auto why = try_it<Test>(nowhere_);
        say(what, why.empty() ? "well" : "GOES WRONG: " + why);
        if (why.empty()) return;
        ++wrong_;
        (void)try_it<Test>(std::cerr);  // the same again, with what happened
    }
    template <class Test>
    void goes_wrong(const std::string& what) {
        const auto why = try_it<Test>(nowhere_);
        say(what, why.empty() ? "NOT NOTICED" : "noticed: " + why);
        if (why.empty()) ++wrong_;
    }
    [[nodiscard]] int exit_status() const { return wrong_ == 0 ? 0 : 1; }

private:
    template <class Test>
    [[nodiscard]] std::string try_it(std::ostream& out) {
        rl::test_params p;
        p.iteration_count = interleavings_;
        p.output_stream = &out;
        p.progress_stream = &nowhere_;
        p.search_type = rl::sched_random;
        p.execution_depth_limit = 10'000;
        if (rl::simulate<Test>(p)) return {};
        return std::string(rl::test_result_str(p.test_result)) + " in interleaving " + std::to_string(p.stop_iteration);
    }
    static void say(const std::string& what, const std::string& verdict) {
        std::printf("%-48s %s\n", what.c_str(), verdict.c_str());
        std::fflush(stdout);
    }

    std::ostream nowhere_{nullptr};  // one that allocated would do so from what Relacy watches
    unsigned interleavings_;
    int wrong_ = 0;
};

}  // namespace checker
