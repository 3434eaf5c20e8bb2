// SPDX-License-Identifier: BSD-2-Clause
#pragma once

/// All of nm. Start reading at concepts.hpp, sync.hpp and fuse.hpp; each port is one header under ports/.

#include "nm/any_port.hpp"
#include "nm/concepts.hpp"
#include "nm/context.hpp"
#include "nm/fuse.hpp"
#include "nm/port.hpp"
#include "nm/ports/null.hpp"
#include "nm/ports/pipe.hpp"
#include "nm/version.hpp"
#include "nm/vnet_hdr.hpp"
#include "nm/wait.hpp"
