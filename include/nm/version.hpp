// SPDX-License-Identifier: BSD-2-Clause
#pragma once

// The version, once: CMakeLists.txt and the packages read it from here.
#define NM_VERSION_MAJOR 0
#define NM_VERSION_MINOR 1
#define NM_VERSION_PATCH 0
#define NM_VERSION_STRING "0.1.0"
