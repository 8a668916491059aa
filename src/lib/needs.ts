/** A command that is needed, and the Debian package that has it. */
export type Need = { readonly command: string; readonly package: string }

/** What a host needs for VPCs and for processes without root. */
export const HOST_NEEDS: readonly Need[] = [
  { command: 'ip', package: 'iproute2' },
  { command: 'nft', package: 'nftables' },
  { command: 'conntrack', package: 'conntrack' },
  { command: 'nsenter', package: 'util-linux' },
  { command: 'setpriv', package: 'util-linux' },
  { command: 'useradd', package: 'passwd' },
]

/** The command line that installs a need on Debian and its kin. */
export const installOf = (it: Need): string => `apt-get install -y ${it.package}`
