// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// Runs code whose atomics can be exchanged under Relacy, which tries interleavings and, for each load, whatever value the C++
// memory model allows. Included after whatever brings its own atomics: Relacy puts macros where words of the language were.

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
#undef memory_order_relaxed
#undef memory_order_consume
#undef memory_order_acquire
#undef memory_order_release
#undef memory_order_acq_rel
#undef memory_order_seq_cst

namespace checker {

/// Where a thread sleeps: an eventfd.
class sleeping_place {
public:
    /// read(2) is how one sleeps on it, or (`polled`) poll(2): then it stays readable until it is cleared.
    void open(bool polled = false) { event_.init(polled, false, RL_INFO); }
    void close() { event_.deinit(RL_INFO); }
    void signal() {
        ++signals;
        event_.set(RL_INFO);
    }
    void sleep() {
        ++sleeps;
        event_.wait(false, false, RL_INFO);
    }
    void clear() { event_.reset(RL_INFO); }
    unsigned signals = 0, sleeps = 0;

private:
    rl::generic_event event_;
};

/// Tries tests, each in so many interleavings, and says what came of it.
class verdicts {
public:
    verdicts(int argc, char** argv, unsigned interleavings)
        : interleavings_(argc > 1 ? static_cast<unsigned>(std::strtoul(argv[1], nullptr, 10)) : interleavings) {}

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
    /// The same where it is enough that one of several tests notices; or where none is to, because `superfluous`.
    template <class... Tests>
    void one_goes_wrong(const std::string& what, const char* superfluous = nullptr) {
        std::string why;
        ((why = why.empty() ? try_it<Tests>(nowhere_) : why), ...);
        if (superfluous == nullptr) say(what, why.empty() ? "NOT NOTICED" : "noticed: " + why);
        else say(what, why.empty() ? "well: " + std::string(superfluous) : "NOTICED, IT IS NOT SUPERFLUOUS: " + why);
        if (why.empty() != (superfluous != nullptr)) ++wrong_;
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
        std::printf("%-56s %s\n", what.c_str(), verdict.c_str());
        std::fflush(stdout);
    }

    std::ostream nowhere_{nullptr};  // one that allocated would do so from what Relacy watches
    unsigned interleavings_;
    int wrong_ = 0;
};

}  // namespace checker
