"""Results people can see and use: pixels, outlines, masks, crops; by the methods of the results themselves."""
