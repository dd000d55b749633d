/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that have bitten C programs often enough to be compile errors here.
 * Include it last, after all system headers. */
#ifndef DG_COMMON_BANNED_H
#define DG_COMMON_BANNED_H

#pragma GCC poison strcpy strcat sprintf vsprintf strtok atoi atol atoll atof gets
#pragma GCC poison gmtime localtime ctime asctime rand srand tmpnam mktemp

#endif
