// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "common/account.hpp"
#include "common/expect.hpp"
#include "common/metrics_file.hpp"
#include "common/report.hpp"
#include "common/run.hpp"

namespace tool {

/// How a program ends that forwards frames: its books as a table and in the forms that were asked for, then what went wrong. Returns the exit
/// status. `csv()` prints the last rows; `taken`: stdout is for something else.
template <class Settings, class Books, class Csv, class Fill>
[[nodiscard]] int close_run(const run& ended, const Settings& s, const Books& b, metrics_file& metrics, bool taken, Csv&& csv, Fill&& fill) {
    const auto outcomes = b.judge(s.expect);
    const std::string table = b.table(s, outcomes);
    if (taken || s.style.json || s.style.csv || metrics.on_stdout()) print_err(table);
    else print_out(table);
    if (s.style.json) print_out(b.to_json(outcomes) + "\n");
    if (s.style.csv) csv();
    metrics.last(fill);
    ended.rethrow();
    require_conserved(b.conserved());
    return exit_of(outcomes);
}

}  // namespace tool
