// SPDX-License-Identifier: BSD-2-Clause
#pragma once

#include "settings.hpp"

namespace nmctl {

/// nmctl bind: who has which device. Exit status 0.
int show(const settings& s);
/// Gives devices to vfio-pci, or back. All of them are tried; exit status 1 if one could not be.
int bind(const settings& s);

}  // namespace nmctl
