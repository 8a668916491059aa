/** With the tag that is meant when none is given. */
export const referenceOf = (image: string): string =>
  image.includes('@') || /:[^/]+$/.test(image) ? image : `${image}:latest`
