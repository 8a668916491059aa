import type { Verbs } from '#cloud/cloud.ts'
import type { Person, TestDialect } from './thecloud.testing.ts'

/** Ids of a VPC with two subnets. */
export type TestNetwork = { readonly vpc: string; readonly web: string; readonly data: string }

/** What a person does past the dialect, for what it does not serve or what is not at issue. */
export async function actIn<R>(it: TestDialect, by: Person, work: (verbs: Verbs) => Promise<R>): Promise<R> {
  const { cloud } = it.world
  const origin = { dialect: 'test', address: '127.0.0.1', requestId: 'test' }
  const caller = await cloud.authenticate(by.key, origin)
  if (!caller) throw new Error('the key is not known')
  return await cloud.act(caller, 'test', work)
}

/** A VPC of the range `<a.b>.0.0/16` with the subnets web and data. */
export async function networkOf(by: Person, name: string, range: string): Promise<TestNetwork> {
  const { id } = await by.data('POST', '/vpcs', { name, cidr_block: `${range}.0.0/16` })
  const subnetOf = async (called: string, third: number): Promise<string> => {
    const body = { name: called, cidr_block: `${range}.${third}.0/24` }
    return (await by.data('POST', `/vpcs/${id}/subnets`, body)).id as string
  }
  return { vpc: id, web: await subnetOf('web', 1), data: await subnetOf('data', 2) }
}

/** The id of a machine in the first subnet of a network. */
export const instanceIn = async (
  it: TestDialect,
  by: Person,
  { vpc, web }: TestNetwork,
  name: string,
): Promise<string> =>
  (await actIn(it, by, (verbs) => verbs.createWorkload({ vpc, subnet: web, name, spec: { image: 'nginx' } })))
    .id
